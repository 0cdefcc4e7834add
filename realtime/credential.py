"""Who signs recordings. A certificate and its key in, or nothing: then one that this computer makes for itself.

Note [Local certificate]
    A manifest has to be signed by somebody. Who has a certificate of an authority that C2PA trusts gives it. For
    everybody else this computer makes one, once, and keeps it for its owner alone. Its signature proves that a file
    is as liveswap left it and that several files come from the same computer; it does not prove whose computer that
    is, so readers call it untrusted, and rightly. C2PA asks for a chain: an authority signs the certificate that
    signs (C2PA specification 2.2, section 14.5). The authority's key is forgotten as soon as it has signed the one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from realtime.errors import UsageError
from realtime.files import create_privately, explain, make_private_folder
from realtime.places import records_folder

LOCAL = "signing.pem"
_YEARS = 20
_LARGEST = 1 << 20
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_ORGANISATION = "liveswap on a user's computer, self-signed"


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate chain with the key that signs."""

    chain: bytes
    """PEM: the certificate that signs, then those above it."""
    key: bytes
    """PEM, PKCS #8, without a password."""
    algorithm: str
    """As C2PA names it: es256, es384, es512, ps256 or ed25519."""
    holder: str
    """Whom the certificate names."""
    local: bool
    """Whether this computer made it for itself, see Note [Local certificate]."""

    def __repr__(self) -> str:
        return f"Credential({self.holder}, {self.algorithm}, {'local' if self.local else 'given'})"


def open_credential(certificate: Path | None = None, key: Path | None = None) -> Credential:
    """The credential in two PEM files, or this computer's own, which is made when there is none yet.

    Raises UsageError for files that cannot be used, OSError when the own one can be neither read nor made.
    """
    if (certificate is None) != (key is None):
        raise UsageError("a certificate signs with its key; give both --signing-certificate and --signing-key")
    if certificate is not None and key is not None:
        return _read(_bytes(certificate), _bytes(key), f"{certificate} and {key}", local=False)
    path = records_folder() / LOCAL
    if not path.is_file():
        make_private_folder(path.parent)
        create_privately(path, _make())
    data = _bytes(path)
    return _read(data, data, str(path), local=True)


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise UsageError(f"{path} is no file; give a PEM file")
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(explain(error, path)) from error
    if len(data) > _LARGEST:
        raise UsageError(f"{path} is too large for a PEM file; give the certificate or its key")
    return data


def _read(certificates: bytes, key: bytes, where: str, *, local: bool) -> Credential:
    remedy = "give PEM files that belong together" if not local else f"delete {where}, a new one will be made"
    try:
        chain = x509.load_pem_x509_certificates(certificates)
        private = serialization.load_pem_private_key(key, password=None)
        if chain[0].public_key() != private.public_key():
            raise ValueError("the key belongs to another certificate")
        if not chain[0].not_valid_before_utc <= datetime.now(UTC) <= chain[0].not_valid_after_utc:
            raise ValueError(f"the certificate is valid until {chain[0].not_valid_after_utc:%Y-%m-%d}")
        pem = serialization.Encoding.PEM
        return Credential(
            chain=b"".join(each.public_bytes(pem) for each in chain),
            key=private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
            algorithm=_algorithm(private),
            holder=_holder(chain[0]),
            local=local,
        )
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        why = " ".join(str(error).split())[:120]
        raise UsageError(f"{where} hold no certificate that can sign ({why}); {remedy}") from error


def _algorithm(key: PrivateKeyTypes) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    raise ValueError("C2PA signs with P-256, P-384, P-521, Ed25519 or RSA keys of at least 2048 bits")


def _holder(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _make() -> bytes:
    """A certificate with its key, and the certificate of the authority that signed it, as one PEM file."""
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    above = _certificate("authority for one certificate", authority, authority, None)
    signing = _certificate("recordings of this computer", own, authority, above.subject)
    pem = serialization.Encoding.PEM
    key = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return b"".join([signing.public_bytes(pem), above.public_bytes(pem), key])


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, issuer: x509.Name | None
) -> x509.Certificate:
    """One that follows the profile of C2PA; without an issuer it is the authority itself."""
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION)
    subject = x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ca, began = issuer is None, datetime.now(UTC) - timedelta(hours=1)  # clocks of two computers differ
    use = {"content_commitment": False, "key_encipherment": False, "data_encipherment": False, "key_agreement": False}
    use |= {"encipher_only": False, "decipher_only": False}
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **use), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not ca:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(signer, hashes.SHA256())
