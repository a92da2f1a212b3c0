"""The cryptography of WhatsApp's stand-in: Noise, XEdDSA, and as much of Signal as reading a message takes.

Written from the specifications of Signal (XEdDSA, X3DH, Double Ratchet) and of the Noise framework; the
client under test brings its own.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.fakes.whatsapp_web_wire import field, fields

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_BASE_Y = 4 * pow(5, -1, _P) % _P
_BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202

_PATTERN = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"
_DJB = b"\x05"  # what Signal writes before a Curve25519 public key


class KeyPair:
    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def agree(self, public: bytes) -> bytes:
        return self._private.exchange(X25519PublicKey.from_public_bytes(public))

    def sign(self, message: bytes) -> bytes:
        """Sign by XEdDSA (Signal, 2016), whose public key is the Curve25519 one."""
        scalar = bytearray(self._private.private_bytes_raw())
        scalar[0] &= 248
        scalar[31] = scalar[31] & 127 | 64
        private = int.from_bytes(scalar, "little")
        point = _compress(_times_base(private))
        if point[31] & 0x80:
            private = -private % _ORDER
            point = point[:31] + bytes([point[31] & 0x7F])
        seed = b"\xfe" + b"\xff" * 31 + private.to_bytes(32, "little") + message + secrets.token_bytes(64)
        nonce = _hash_to_scalar(seed)
        commitment = _compress(_times_base(nonce))
        challenge = _hash_to_scalar(commitment + point + message)
        return commitment + ((nonce + challenge * private) % _ORDER).to_bytes(32, "little")


_Point = tuple[int, int, int, int]


def _add(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times_base(scalar: int) -> _Point:
    result: _Point = (0, 1, 1, 0)
    power: _Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)
    while scalar:
        if scalar & 1:
            result = _add(result, power)
        power = _add(power, power)
        scalar >>= 1
    return result


def _compress(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _hash_to_scalar(data: bytes) -> int:
    return int.from_bytes(hashlib.sha512(data).digest(), "little") % _ORDER


def _derive(length: int, data: bytes, salt: bytes, info: bytes = b"") -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(data)


class NoiseServer:
    """The answering side of Noise_XX_25519_AESGCM_SHA256."""

    def __init__(self, header: bytes, static: KeyPair, certificate: bytes) -> None:
        self._static = static
        self._certificate = certificate
        self._ephemeral = KeyPair()
        self._hash = self._chain = self._key = _PATTERN
        self._count = 0
        self._mix_hash(header)

    def answer(self, client_ephemeral: bytes) -> tuple[bytes, bytes, bytes]:
        """Return our ephemeral key, our static key and our certificate, the latter two encrypted."""
        self._mix_hash(client_ephemeral)
        self._mix_hash(self._ephemeral.public)
        self._mix_key(self._ephemeral.agree(client_ephemeral))
        static = self._encrypt(self._static.public)
        self._mix_key(self._static.agree(client_ephemeral))
        return self._ephemeral.public, static, self._encrypt(self._certificate)

    def finish(self, client_static: bytes, payload: bytes) -> tuple[bytes, "Transport"]:
        """Return what the client says of itself, and the connection's ciphers."""
        self._mix_key(self._ephemeral.agree(self._decrypt(client_static)))
        said = self._decrypt(payload)
        keys = _derive(64, b"", self._chain)
        return said, Transport(AESGCM(keys[:32]), AESGCM(keys[32:]))

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix_key(self, secret: bytes) -> None:
        both = _derive(64, secret, self._chain)
        self._chain, self._key, self._count = both[:32], both[32:], 0

    def _encrypt(self, plain: bytes) -> bytes:
        sealed = AESGCM(self._key).encrypt(_nonce(self._count), plain, self._hash)
        self._count += 1
        self._mix_hash(sealed)
        return sealed

    def _decrypt(self, sealed: bytes) -> bytes:
        plain = AESGCM(self._key).decrypt(_nonce(self._count), sealed, self._hash)
        self._count += 1
        self._mix_hash(sealed)
        return plain


@dataclass
class Transport:
    _theirs: AESGCM
    _ours: AESGCM
    _read: int = 0
    _written: int = 0

    def open(self, sealed: bytes) -> bytes:
        self._read += 1
        return self._theirs.decrypt(_nonce(self._read - 1), sealed, None)

    def seal(self, plain: bytes) -> bytes:
        self._written += 1
        return self._ours.encrypt(_nonce(self._written - 1), plain, None)


def _nonce(count: int) -> bytes:
    return count.to_bytes(12, "big")


class Recipient:
    """The keys of every phone of the stand-in; it reads what was encrypted for them."""

    def __init__(self) -> None:
        self.identity = KeyPair()
        self.signed = KeyPair()
        self.signature = self.identity.sign(_DJB + self.signed.public)

    def read(self, sealed: bytes) -> bytes:
        """Decrypt a Signal message that opens a session, and take its padding off."""
        opening = fields(sealed[1:])
        base, their_identity = opening[2][0][1:], opening[3][0][1:]
        secret = (
            b"\xff" * 32
            + self.signed.agree(their_identity)
            + self.identity.agree(base)
            + self.signed.agree(base)
        )
        root = _derive(64, secret, bytes(32), b"WhisperText")[:32]
        message = fields(opening[4][0][1:-8])
        chain = _derive(64, self.signed.agree(message[1][0][1:]), root, b"WhisperRatchet")[32:]
        for _ in range(message.get(2, [0])[0]):
            chain = hmac.digest(chain, b"\x02", "sha256")
        keys = _derive(80, hmac.digest(chain, b"\x01", "sha256"), bytes(32), b"WhisperMessageKeys")
        return _unsealed(message[4][0], keys[:32], keys[64:])


def read_group(distribution: bytes, sealed: bytes) -> bytes:
    """Decrypt a group's message with the key that its sender handed to each member."""
    handed = fields(fields(distribution)[2][0][1:])
    message = fields(sealed[1:-64])
    chain = handed[3][0]
    for _ in range(message.get(2, [0])[0] - handed.get(2, [0])[0]):
        chain = hmac.digest(chain, b"\x02", "sha256")
    keys = _derive(48, hmac.digest(chain, b"\x01", "sha256"), bytes(32), b"WhisperGroup")
    return _unsealed(message[3][0], keys[16:], keys[:16])


def _unsealed(sealed: bytes, key: bytes, start: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CBC(start)).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    plain = unpadder.update(cipher.update(sealed) + cipher.finalize()) + unpadder.finalize()
    return plain[: -plain[-1]]


def certificate(root: KeyPair, static: KeyPair) -> bytes:
    """Return the chain of certificates for our Noise key, signed by the root key."""
    middle = KeyPair()
    whole_time = field(4, 1) + field(5, 2**33)
    above = field(1, 1) + field(2, 0) + field(3, middle.public) + whole_time
    leaf = field(1, 2) + field(2, 1) + field(3, static.public) + whole_time
    return field(1, field(1, leaf) + field(2, middle.sign(leaf))) + field(
        2, field(1, above) + field(2, root.sign(above))
    )
