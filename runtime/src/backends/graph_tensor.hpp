// The inputs and outputs of a graph, from an engine's library to the core.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "backend.h"

namespace isa_backends {

/// An input or output of the graph.
struct GraphTensor {
    std::string name;
    std::string dtype_name; ///< as numpy names it, where the core knows it
    bool is_input = false;
    std::vector<std::int64_t> shape; ///< -1 where free
};

/// The same for the core, which reads the names where they are: `graph` must stay.
inline std::vector<isa_tensor> described(const std::vector<GraphTensor> &graph) {
    std::vector<isa_tensor> found;
    for (const GraphTensor &each : graph) {
        isa_tensor tensor{};
        tensor.name = each.name.c_str();
        tensor.dtype_name = each.dtype_name.c_str();
        tensor.is_input = each.is_input ? 1 : 0;
        tensor.dtype = each.dtype_name == "uint8"     ? ISA_DTYPE_UINT8
                       : each.dtype_name == "float32" ? ISA_DTYPE_FLOAT32
                                                      : ISA_DTYPE_OTHER;
        tensor.rank = static_cast<std::int32_t>(each.shape.size());
        for (std::size_t axis = 0; axis < each.shape.size() && axis < std::size(tensor.shape); ++axis)
            tensor.shape[axis] = each.shape[axis];
        found.push_back(tensor);
    }
    return found;
}

} // namespace isa_backends
