// A small reader of JSON.
#pragma once

#include <cctype>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

struct Json {
  enum Kind { null, boolean, number, text, list, map } kind = null;
  double value = 0;  // of a number; 1 for true
  std::string string;
  std::vector<Json> items;                             // of a list
  std::vector<std::pair<std::string, Json>> entries;  // of a map

  // The value of a key, as in config["glimmer"]["m"]; null if there is none.
  const Json& operator[](const std::string& key) const {
    static const Json none;
    for (const auto& [name, x] : entries)
      if (name == key) return x;
    return none;
  }

  // A whole number, such as a size.
  std::size_t size() const {
    if (kind != number) throw std::runtime_error("JSON: expected a number");
    return static_cast<std::size_t>(value);
  }
};

class JsonReader {
 public:
  explicit JsonReader(const std::string& text) : text_(text) {}

  Json read() {
    Json result = value();
    if (peek()) fail("the end");
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    throw std::runtime_error("JSON: expected " + expected + " at byte " + std::to_string(at_));
  }

  // The next byte that is no space; 0 at the end.
  char peek() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  void take(char c) {
    if (peek() != c) fail(std::string(1, c));
    ++at_;
  }

  Json value() {
    Json result;
    const char c = peek();
    if (c == '{' || c == '[') {
      const char end = c == '{' ? '}' : ']';
      result.kind = c == '{' ? Json::map : Json::list;
      for (take(c); peek() != end;) {
        if (c == '{') {
          std::string key = string();
          take(':');
          result.entries.emplace_back(std::move(key), value());
        } else {
          result.items.push_back(value());
        }
        if (peek() != end) take(',');
      }
      take(end);
    } else if (c == '"') {
      result.kind = Json::text;
      result.string = string();
    } else if (word("true") || word("false")) {
      result.kind = Json::boolean;
      result.value = c == 't';
    } else if (!word("null")) {
      char* end = nullptr;
      result.kind = Json::number;
      result.value = std::strtod(text_.c_str() + at_, &end);
      if (end == text_.c_str() + at_) fail("a value");
      at_ = end - text_.c_str();
    }
    return result;
  }

  bool word(const std::string& word) {
    if (text_.compare(at_, word.size(), word)) return false;
    at_ += word.size();
    return true;
  }

  std::string string() {
    std::string result;
    for (take('"'); at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] != '\\') {
        result += text_[at_];
        continue;
      }
      const char c = text_.at(++at_);
      if (c == 'u') {  // in UTF-8
        const unsigned code = std::stoul(text_.substr(at_ + 1, 4), nullptr, 16);
        at_ += 4;
        if (code < 0x80) {
          result += static_cast<char>(code);
        } else {
          if (code < 0x800) {
            result += static_cast<char>(0xC0 | code >> 6);
          } else {
            result += static_cast<char>(0xE0 | code >> 12);
            result += static_cast<char>(0x80 | (code >> 6 & 0x3F));
          }
          result += static_cast<char>(0x80 | (code & 0x3F));
        }
      } else {
        result += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
      }
    }
    take('"');
    return result;
  }

  const std::string& text_;
  std::size_t at_ = 0;
};
