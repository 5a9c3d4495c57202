// What a message tells the user of a plan to run.
#pragma once

#include <string>

namespace isa_core {

/// What builds a plan again: "isa-export model.onnx --plan", of the graph beside it where there is one.  Quoted as a
/// shell wants it.
std::string plan_command(const std::string &plan);

} // namespace isa_core
