"""Prints what kustomize makes of a directory: kustomize.py LIBRARY DIRECTORY

The library is Go's kustomize behind three C functions. Only these are used: the Python around it wants a newer Python.
"""

import ctypes
import json
import sys

ROOT_ONLY = 0  # As kubectl does it: nothing is read from outside of the directories that kustomizations name.


def build(library, directory):
    functions = ctypes.CDLL(library)
    functions.pykustomize_build.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]
    functions.pykustomize_last_error.restype = ctypes.c_char_p
    options = json.dumps({"load_restrictions": ROOT_ONLY, "reorder": "unspecified"})
    result = ctypes.c_char_p()
    status = functions.pykustomize_build(directory.encode(), options.encode(), ctypes.byref(result))
    if status != 0:
        sys.exit(functions.pykustomize_last_error().decode())
    return result.value.decode()


if __name__ == "__main__":
    print(build(*sys.argv[1:]), end="")
