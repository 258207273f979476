# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The guarded import of libvirt, and libvirt's errors as ours."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import Any, Iterator, Optional

from .._errors import FleetError
from .causes import TLS, brief, cause_of

__all__ = ["LIBVIRT_IMPORT_ERROR", "fleet_error", "is_error", "libvirt", "require_libvirt", "translated"]

LIBVIRT_IMPORT_ERROR: Optional[str] = None
try:
    import libvirt
except ImportError:
    libvirt = None
    LIBVIRT_IMPORT_ERROR = traceback.format_exc()
else:
    # Without a handler libvirt prints every error to standard error, also those that are expected and handled.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)


def require_libvirt() -> Any:
    """Return the libvirt bindings or raise ``library_missing``."""
    if libvirt is None:
        raise FleetError(
            "The libvirt bindings for Python are missing on this host; install python3-libvirt "
            "or set ansible_python_interpreter to the distribution's Python.",
            "library_missing",
            exception=LIBVIRT_IMPORT_ERROR,
        )
    return libvirt


def is_error(error: Exception, *names: str) -> bool:
    """Tell whether ``error`` is a libvirt error with one of these names, such as ``VIR_ERR_NO_DOMAIN``."""
    code = getattr(error, "get_error_code", lambda: None)()
    return code is not None and code in [getattr(libvirt, name, None) for name in names]


def fleet_error(error: Exception, doing: str, code: str = "libvirt", **facts: Any) -> FleetError:
    """Return a ``FleetError`` that says what was being done and keeps libvirt's own words and code."""
    words = getattr(error, "get_error_message", lambda: None)() or str(error)
    number = getattr(error, "get_error_code", lambda: None)()
    text = f"{doing}: {brief(words)}"
    # Whoever shows or refuses a certificate is up.
    if code == "libvirtd_down" and cause_of(words, (TLS,)):
        text, code = f"{text}. {TLS.step}.", TLS.code
    return FleetError(text, code, libvirt_code=number, libvirt_message=words, **facts)


@contextmanager
def translated(doing: str, code: str = "libvirt", **facts: Any) -> Iterator[None]:
    """Turn a libvirt error inside the block into a ``FleetError`` that begins with ``doing``."""
    try:
        yield
    except require_libvirt().libvirtError as error:
        raise fleet_error(error, doing, code, **facts) from error
