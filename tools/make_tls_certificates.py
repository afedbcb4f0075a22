#!/usr/bin/env python3
"""Certificates for tests of https. usage: make_tls_certificates.py FOLDER

Writes ca.pem, an authority of its own, and what it signed, each with its key: good.pem for 127.0.0.1 and localhost, other.pem for
another host, expired.pem. Needs python3-cryptography.
"""
import datetime
import ipaddress
import os
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BEGIN = datetime.datetime(2020, 1, 1)
END = datetime.datetime(2120, 1, 1)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certify(subject, key, issuer, signer, end, extensions):
    builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(BEGIN).not_valid_after(end)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    authority = new_key()
    with open(os.path.join(folder, "ca.pem"), "wb") as f:
        f.write(certify("tests", authority, "tests", authority, END, [(x509.BasicConstraints(ca=True, path_length=0), True)]))
    local = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    other = [x509.DNSName("other.invalid")]
    for file, names, end in (("good", local, END), ("other", other, END),
                             ("expired", local, datetime.datetime(2021, 1, 1))):
        key = new_key()
        with open(os.path.join(folder, file + ".pem"), "wb") as f:
            f.write(certify(file, key, "tests", authority, end, [(x509.SubjectAlternativeName(names), False)]))
            f.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()))


main()
