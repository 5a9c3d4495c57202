// A plan's record held against the library and the card, before TensorRT sees the plan.
//
// A plan is executable code for a card, and one with version_compatible is executable code for the host too.
#pragma once

#include <string>
#include <vector>

#include "backend.h"

namespace isa_tensorrt {

/// "10.16.1.11" as numbers, so that 10 is more than 9; what follows them (".post1") does not count.
std::vector<int> version_numbers(const std::string &version);

/// TensorRT's number of its version, 101601, as text: "10.16.1".
std::string library_version(int number);

/// Throws for a plan with code for the host, unless the user allows it.
void check_code(const std::string &path, const isa_plan_record &plan, bool allow_engine_code);
/// Throws where this library cannot read the plan.
void check_library(const std::string &path, const isa_plan_record &plan, const std::string &version);
/// Throws where the card is not of the kind that the plan is for.
void check_card(const std::string &path, const isa_plan_record &plan, int major, int minor, const std::string &card);

/// The name of the graph that a plan was built of, by convention: "model.onnx".
std::string graph_name(const std::string &path);

} // namespace isa_tensorrt
