"""Messages of libraries that concern no run here: each is named, with its reason. All others are shown."""

import logging
import sys
import warnings

# An optional kernel for 4-bit products on CPUs with AVX-512, which would be fetched from the hub.
OPTIONAL_KERNEL = "Failed to load CPU gemm_4bit_forward from kernels-community"
# True of every machine without a GPU; with one it says that bitsandbytes cannot use it, and is shown.
NO_GPU = "The installed version of bitsandbytes was compiled without GPU support"


def leave_out_noise() -> None:
    """Silence log lines of bitsandbytes; call it before bitsandbytes is imported, which is when it logs."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_no_optional_kernel)
    logging.getLogger("bitsandbytes.cextension").addFilter(_matters_here)
    # A check that bitsandbytes 0.46 asks of torch, twice a product; what replaces it is theirs to call.
    warnings.filterwarnings("ignore", "_check_is_size will be removed", FutureWarning, r"bitsandbytes\.")


def _is_no_optional_kernel(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(OPTIONAL_KERNEL)


def _matters_here(record: logging.LogRecord) -> bool:
    said = record.getMessage().startswith(NO_GPU)
    return not said or sys.modules["torch"].cuda.is_available()  # bitsandbytes has imported it
