/* A library that TensorRT's Python bindings load in the place of TensorRT's own.

   The bindings look these entry points up when they are imported and call none of them to be inspected.
   One that is called after all answers zero: no object, no plugins, version 0. */

#define ENTRY_POINT(name) \
    void *name(void) { return 0; }

/* libnvinfer */
ENTRY_POINT(createInferBuilder_INTERNAL)
ENTRY_POINT(createInferRefitter_INTERNAL)
ENTRY_POINT(createInferRuntime_INTERNAL)
ENTRY_POINT(getBuilderPluginRegistry)
ENTRY_POINT(getPluginRegistry)

/* libnvinfer_plugin */
ENTRY_POINT(initLibNvInferPlugins)

/* libnvonnxparser */
ENTRY_POINT(createNvOnnxParser_INTERNAL)
ENTRY_POINT(createNvOnnxParserRefitter_INTERNAL)
ENTRY_POINT(getNvOnnxParserVersion)
