"""How tests compile: quickly, since what they compile runs but a few times."""

import importlib.metadata

# Without LLVM's optimisations compiling takes a third, XLA's own stay.
QUICK = "--xla_backend_optimization_level=0"
# The older emitters of fusions are twice as fast. A flag that XLA does not know ends
# the process: a later version may not know this one.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    QUICK += " --xla_cpu_use_fusion_emitters=false"

#: The environment of a subprocess with one device.
ONE_DEVICE = {"XLA_FLAGS": QUICK, "JAX_PLATFORMS": "cpu"}
