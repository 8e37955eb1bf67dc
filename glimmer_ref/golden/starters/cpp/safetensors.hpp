// Reads and writes safetensors files: eight bytes with the length of the header, the header as JSON, then the data.
// The machine must be little-endian, as nearly all are.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.hpp"

// An array of floats or of whole numbers; the other one of the two is empty.
struct Tensor {
  std::vector<std::size_t> shape;
  std::vector<float> x;
  std::vector<std::int64_t> whole;
};

using Tensors = std::map<std::string, Tensor>;

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

template <typename Stored, typename T>
std::vector<T> numbers(const std::string& bytes, std::size_t begin, std::size_t end, T (*convert)(Stored)) {
  std::vector<T> result((end - begin) / sizeof(Stored));
  for (std::size_t i = 0; i < result.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + begin + i * sizeof(Stored), sizeof(Stored));
    result[i] = convert(stored);
  }
  return result;
}

inline Tensors read_tensors(const std::string& path) {
  const std::string bytes = read_file(path);
  std::uint64_t length = 0;
  if (bytes.size() >= 8) std::memcpy(&length, bytes.data(), 8);
  const std::string text = bytes.substr(8, length);
  Tensors tensors;
  const Json header = JsonReader(text).read();
  for (const auto& [name, entry] : header.entries) {
    if (name == "__metadata__") continue;
    Tensor tensor;
    for (const Json& n : entry["shape"].items) tensor.shape.push_back(n.size());
    const std::size_t begin = 8 + length + entry["data_offsets"].items.at(0).size();
    const std::size_t end = 8 + length + entry["data_offsets"].items.at(1).size();
    if (end > bytes.size()) throw std::runtime_error(path + " is truncated");
    const std::string type = entry["dtype"].string;
    if (type == "F32") {
      tensor.x = numbers<float, float>(bytes, begin, end, [](float x) { return x; });
    } else if (type == "F64") {
      tensor.x = numbers<double, float>(bytes, begin, end, [](double x) { return static_cast<float>(x); });
    } else if (type == "BF16") {  // the upper half of a float32
      tensor.x = numbers<std::uint16_t, float>(bytes, begin, end, [](std::uint16_t half) {
        const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
        float x;
        std::memcpy(&x, &bits, 4);
        return x;
      });
    } else if (type == "I32") {
      using Int = std::int64_t;
      tensor.whole = numbers<std::int32_t, Int>(bytes, begin, end, [](std::int32_t x) { return Int{x}; });
    } else if (type == "I64") {
      tensor.whole = numbers<std::int64_t, std::int64_t>(bytes, begin, end, [](std::int64_t x) { return x; });
    } else {
      throw std::runtime_error(name + " is " + type + "; expected F32, F64, BF16, I32 or I64");
    }
    tensors[name] = tensor;
  }
  return tensors;
}

inline void write_tensors(const std::string& path, const Tensors& tensors) {
  std::string header = "{", data;
  for (const auto& [name, tensor] : tensors) {
    std::size_t size = 1;
    std::string shape;
    for (std::size_t n : tensor.shape) {
      size *= n;
      shape += (shape.empty() ? "" : ",") + std::to_string(n);
    }
    const std::size_t begin = data.size();
    if (tensor.x.size() + tensor.whole.size() != size) throw std::runtime_error(name + " does not fit its shape");
    data.append(reinterpret_cast<const char*>(tensor.x.data()), 4 * tensor.x.size());
    data.append(reinterpret_cast<const char*>(tensor.whole.data()), 8 * tensor.whole.size());
    const std::string type = tensor.whole.empty() ? "F32" : "I64";
    if (header.size() > 1) header += ",";
    header += "\"" + name + "\":{\"dtype\":\"" + type + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
              std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
  }
  header += "}";
  const std::uint64_t length = header.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), 8) << header << data;
  if (!file) throw std::runtime_error(path + " cannot be written");
}
