#!/usr/bin/env bash
# Makes the certificates beside it: they are for loopback in tests, protect nothing, and last until 2120. Needs openssl.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$1.key"; }

authority() { # name: a certificate of its own
    key "$1"
    openssl req -x509 -new -key "$work/$1.key" -out "$work/$1.crt" -days 34000 -subj "/CN=gglib_nb tests $1" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -addext "basicConstraints=critical,CA:true"
}

leaf() { # name host start end: signed by the authority
    key "$1"
    openssl req -new -key "$work/$1.key" -out "$work/$1.csr" -subj "/CN=$2"
    printf 'subjectAltName=DNS:%s\nkeyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\n' "$2" >"$work/$1.ext"
    mkdir -p "$work/$1.ca" && : >"$work/$1.ca/index"
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s/index\nnew_certs_dir=%s\ndefault_md=sha256\npolicy=p\nrand_serial=yes\n[p]\ncommonName=supplied\n' \
        "$work/$1.ca" "$work/$1.ca" >"$work/$1.cnf"
    openssl ca -batch -notext -config "$work/$1.cnf" -cert "$work/authority.crt" -keyfile "$work/authority.key" \
        -in "$work/$1.csr" -out "$work/$1.crt" -startdate "$3" -enddate "$4" -extfile "$work/$1.ext" 2>/dev/null
    cat "$work/$1.crt" "$work/$1.key" >"$1.pem"
}

authority authority
cp "$work/authority.crt" authority.pem
leaf right localhost 20200101000000Z 21200101000000Z
leaf expired localhost 20200101000000Z 20200201000000Z
leaf elsewhere elsewhere.example 20200101000000Z 21200101000000Z
authority self-signed
cat "$work/self-signed.crt" "$work/self-signed.key" >self-signed.pem
