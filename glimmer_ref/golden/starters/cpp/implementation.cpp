// GLIMMER, stage by stage: fill in a stage, run this program on a case, and see whether the stage is right.
//
//     g++ -std=c++17 -O2 -o implementation implementation.cpp
//     ./implementation CASE_DIR OUT.safetensors
//     python check.py CASE_DIR OUT.safetensors
//
// A stage returns its tensors by name, or std::nullopt as long as it is not implemented.
//{about}

#include <cstdio>
#include <exception>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "json.hpp"
#include "safetensors.hpp"

using Result = std::optional<Tensors>;

//{stages}

struct Stage {
  const char* title;
  Result (*run)(const Json&, const Tensors&, const Tensors&, const Tensors&);
  std::vector<std::string> begins;
};

// Each stage, and the beginnings of the names of its results. A stage is skipped if the case has no such names.
const std::vector<Stage> STAGES = {
//{table}
};

bool begins_with(const std::string& name, const std::string& begin) {
  return name.compare(0, begin.size(), begin) == 0;
}

// A tensor's name without the part that names a companion.
std::string without_companion(const std::string& name) {
  for (const std::string part : {".mask", ".lengths"})
    if (name.size() > part.size() && name.substr(name.size() - part.size()) == part)
      return name.substr(0, name.size() - part.size());
  return name;
}

// Runs every stage in order, and returns the results with names of the case.
Tensors run(const std::string& folder) {
  const std::string text = read_file(folder + "/case.json");
  const Json about = JsonReader(text).read();
  const Tensors weights = read_tensors(folder + "/weights.safetensors");
  const Tensors inputs = read_tensors(folder + "/inputs.safetensors");
  Tensors before = read_tensors(folder + "/expected.safetensors"), outputs;
  std::set<std::string> names;
  for (const Json& entry : about["tensors"].items) names.insert(entry["name"].string);
  const std::vector<Stage> single = {{"operations", operations, {""}}};
  for (const Stage& stage : about["kind"].string == "ops" ? single : STAGES) {
    bool wanted = false;
    for (const std::string& name : names)
      for (const std::string& begin : stage.begins) wanted = wanted || begins_with(name, begin);
    if (!wanted) continue;
    const Result result = stage.run(about["config"], weights, inputs, before);
    std::printf("%-16s%s\n", stage.title, result ? "run" : "not written");
    if (!result) continue;
    for (const auto& [name, tensor] : *result) {
      before[name] = tensor;
      if (names.count(without_companion(name))) outputs[name] = tensor;
    }
  }
  return outputs;
}

int main(int count, char** arguments) {
  if (count != 3) {
    std::fprintf(stderr, "usage: %s CASE_DIR OUT.safetensors\n", arguments[0]);
    return 2;
  }
  try {
    write_tensors(arguments[2], run(arguments[1]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
