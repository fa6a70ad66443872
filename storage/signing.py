"""Ed25519 keys and signatures. A signature covers a domain and the canonical JSON of a document, so none serves twice.

Public keys are written ``ed25519:BASE64``; the id of a key is the first half of the SHA-256 of its 32 bytes. The library is imported
when a key is used: no other command pays for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import LoadlockError
from storage.files import write_durably
from storage.ledger import canonical
from storage.points import reached

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PREFIX = "ed25519:"


class BadKey(LoadlockError):
    """A key file, or the text of a public key, can't be used."""

    exit_code = 2


def write_private(path: Path) -> str:
    """Make a new key, write the private half to ``path`` (PKCS 8, mode 0600) and return the public one; never overwrite."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption_algorithm=serialization.NoEncryption()
    )
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise BadKey(f"{path}: exists; a key is never overwritten. Choose another name or --output FILE") from None
    except OSError as error:
        raise BadKey(f"{path}: {error.strerror}; name a place that can be written with --output FILE") from error
    with open(fd, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    reached("key_written")
    return public_of(private)


def read_private(path: Path) -> Ed25519PrivateKey:
    """Return the private key in the file at ``path``."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BadKey(f"{path}: {error.strerror}; name the private key file with --key FILE") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey(f"{path}: no private key in PEM without a password; 'loadlock keys new NAME' makes one") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise BadKey(f"{path}: not an Ed25519 key; 'loadlock keys new NAME' makes one")
    return private


def public_of(private: Ed25519PrivateKey) -> str:
    """Return the public key of ``private`` as text."""
    return PREFIX + base64.b64encode(private.public_key().public_bytes_raw()).decode()


def read_public(text: str) -> str:
    """Return the public key that ``text`` is, or that the file it names holds, in its one spelling."""
    if not text.startswith(PREFIX):
        try:
            text = Path(text).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadKey(f"'{text}' is neither a public key ({PREFIX}...) nor a file that holds one") from error
    return PREFIX + base64.b64encode(_raw(text)).decode()


def key_id(public: str) -> str:
    """Return the id of a public key."""
    return hashlib.sha256(_raw(public)).hexdigest()[:32]


def sign(private: Ed25519PrivateKey, domain: str, document: dict[str, Any]) -> str:
    """Return the signature of ``document`` in ``domain`` as base64."""
    return base64.b64encode(private.sign(_message(domain, document))).decode()


def signed_by(public: str, domain: str, document: dict[str, Any], signature: str) -> bool:
    """Tell whether ``signature`` is that of ``public`` over ``document`` in ``domain``."""
    from cryptography.exceptions import InvalidSignature

    try:
        raw = base64.b64decode(signature, validate=True)
        if base64.b64encode(raw).decode() != signature:  # its last letter has bits that mean nothing
            return False
        _verifier(public).verify(raw, _message(domain, document))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a signed document so that it lasts."""
    write_durably(path.absolute(), (canonical(document) + "\n").encode())


def _message(domain: str, document: dict[str, Any]) -> bytes:
    return f"loadlock {domain} 1\n{canonical(document)}".encode()


def _raw(public: str) -> bytes:
    try:
        raw = base64.b64decode(public.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not public.startswith(PREFIX) or len(raw) != 32:
        raise BadKey(f"'{public[:80]}' is no public key: {PREFIX} and 32 bytes in base64, as 'loadlock keys new' prints it")
    return raw


def _verifier(public: str) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(_raw(public))
