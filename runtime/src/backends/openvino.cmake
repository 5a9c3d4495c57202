# libisa_openvino: graphs on the CPU.
find_package(OpenVINO QUIET COMPONENTS Runtime)
if(NOT OpenVINO_FOUND)
  message(STATUS "isa: no backend openvino: OpenVINO was not found; `pip install openvino` and give "
    "-DOpenVINO_DIR=.../site-packages/openvino/cmake")
  return()
endif()
message(STATUS "isa: backend openvino with OpenVINO ${OpenVINO_VERSION}")
add_library(isa_openvino MODULE
  src/backends/openvino.cpp
  src/backends/openvino_cache.cpp
  src/backends/openvino_model.cpp
  src/sha256.cpp)
target_include_directories(isa_openvino PRIVATE include src)
target_link_libraries(isa_openvino PRIVATE isa_build_options openvino::runtime Threads::Threads)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  target_link_options(isa_openvino PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/src/backends/backend.map)
  set_target_properties(isa_openvino PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/backends/backend.map)
endif()
