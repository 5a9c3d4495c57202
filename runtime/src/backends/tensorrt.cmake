# libisa_tensorrt: plans on NVIDIA GPUs.  TensorRT 10 or 11 and the CUDA runtime, 12 or later; no CUDA compiler.
set(TENSORRT_INCLUDE_DIR "" CACHE PATH "Where TensorRT's NvInferRuntime.h lies")
set(TENSORRT_LIB_DIR "" CACHE PATH "Where TensorRT's libnvinfer lies")
set(CUDA_INCLUDE_DIR "" CACHE PATH "Where cuda_runtime_api.h lies, if CMake cannot find the CUDA toolkit")
set(CUDA_LIB_DIR "" CACHE PATH "Where libcudart lies, if CMake cannot find the CUDA toolkit")

# Also compiled over the stand-in, for the tests.
set(ISA_TENSORRT_SOURCES "")
foreach(source
    src/backends/tensorrt.cpp
    src/backends/tensorrt_backend.cpp
    src/backends/tensorrt_cuda.cpp
    src/backends/tensorrt_engine.cpp
    src/backends/tensorrt_log.cpp
    src/backends/tensorrt_plan.cpp
    src/file.cpp
    src/sha256.cpp)
  list(APPEND ISA_TENSORRT_SOURCES ${PROJECT_SOURCE_DIR}/${source})
endforeach()

# What both have in common.
function(isa_tensorrt_target target)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} PRIVATE isa_build_options Threads::Threads)
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    target_link_options(${target} PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/src/backends/backend.map)
    set_target_properties(${target} PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/backends/backend.map)
  endif()
endfunction()

# A folder that is named is looked in alone: headers and library have to be of one version.
set(isa_named_headers "")
if(TENSORRT_INCLUDE_DIR)
  set(isa_named_headers PATHS ${TENSORRT_INCLUDE_DIR} NO_DEFAULT_PATH)
endif()
set(isa_named_library "")
if(TENSORRT_LIB_DIR)
  set(isa_named_library PATHS ${TENSORRT_LIB_DIR} NO_DEFAULT_PATH)
endif()
unset(ISA_NVINFER_HEADERS CACHE) # they follow the folders that are named
unset(ISA_NVINFER CACHE)
unset(ISA_CUDART CACHE)
unset(ISA_CUDART)
find_path(ISA_NVINFER_HEADERS NvInferRuntime.h ${isa_named_headers})
# pip's folder has the versioned names alone
find_library(ISA_NVINFER NAMES nvinfer libnvinfer.so.11 libnvinfer.so.10 ${isa_named_library})

if(CUDA_INCLUDE_DIR)
  set(isa_cuda_headers ${CUDA_INCLUDE_DIR})
  find_library(ISA_CUDART NAMES cudart libcudart.so.13 libcudart.so.12 PATHS ${CUDA_LIB_DIR} NO_DEFAULT_PATH)
else()
  find_package(CUDAToolkit 12 QUIET)
  if(CUDAToolkit_FOUND)
    set(isa_cuda_headers ${CUDAToolkit_INCLUDE_DIRS})
    set(ISA_CUDART CUDA::cudart)
  else()
    set(ISA_CUDART ISA_CUDART-NOTFOUND)
  endif()
endif()

set(isa_missing "")
if(NOT ISA_NVINFER_HEADERS)
  string(APPEND isa_missing " NvInferRuntime.h (-DTENSORRT_INCLUDE_DIR=.../include)")
endif()
if(NOT ISA_NVINFER)
  string(APPEND isa_missing " libnvinfer (-DTENSORRT_LIB_DIR=.../lib)")
endif()
if(NOT isa_cuda_headers OR NOT ISA_CUDART)
  string(APPEND isa_missing " the CUDA runtime (-DCUDAToolkit_ROOT=/usr/local/cuda, or -DCUDA_INCLUDE_DIR and "
    "-DCUDA_LIB_DIR)")
endif()
if(isa_missing)
  message(STATUS "isa: no backend tensorrt: not found:${isa_missing}")
  return()
endif()
message(STATUS "isa: backend tensorrt with ${ISA_NVINFER}")
add_library(isa_tensorrt MODULE ${ISA_TENSORRT_SOURCES})
isa_tensorrt_target(isa_tensorrt)
target_include_directories(isa_tensorrt SYSTEM PRIVATE ${ISA_NVINFER_HEADERS} ${isa_cuda_headers})
target_link_libraries(isa_tensorrt PRIVATE ${ISA_NVINFER} ${ISA_CUDART})
