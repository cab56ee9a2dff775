# A client of MIT's GSS-API, by HTTP's Negotiate (RFC 4559):
#     negotiate.py HOST ADDRESS PORT MECHANISM...
# asks for mutual authentication with SPNEGO and these mechanisms, the best first, and
# prints the status, how many requests it took, and whether the context is complete.
import base64
import http.client
import socket
import ssl
import sys

import gssapi
from gssapi.raw import acquire_cred, set_neg_mechs

OIDS = {"krb5": "1.2.840.113554.1.2.2", "ntlm": "1.3.6.1.4.1.311.2.2.10", "spnego": "1.3.6.1.5.5.2"}


def oid(name):
    return gssapi.OID.from_int_seq(OIDS[name])


host, address, port, order = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
raw = acquire_cred(None, mechs=[oid(m) for m in order] + [oid("spnego")], usage="initiate").creds
set_neg_mechs(raw, [oid(m) for m in order])
flags = gssapi.RequirementFlag.mutual_authentication | gssapi.RequirementFlag.integrity
context = gssapi.SecurityContext(
    name=gssapi.Name("HTTP@" + host, gssapi.NameType.hostbased_service),
    creds=gssapi.Credentials(base=raw), mech=oid("spnego"), flags=flags, usage="initiate")

tls = ssl.create_default_context()
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
conn = http.client.HTTPSConnection(host, port, context=tls, timeout=20)
conn.sock = tls.wrap_socket(socket.create_connection((address, port), timeout=20), server_hostname=host)

requests, answer = 0, None
while not context.complete or requests == 0:
    token = context.step(answer)
    if token is None:
        break
    conn.request("GET", "/", headers={"Authorization": "Negotiate " + base64.b64encode(token).decode()})
    response = conn.getresponse()
    response.read()
    requests += 1
    scheme, _, text = response.headers.get("WWW-Authenticate", "").partition(" ")
    answer = base64.b64decode(text) if scheme == "Negotiate" and text else None
    if response.status == 200 or answer is None:
        break
if answer is not None and not context.complete:
    context.step(answer)
mutual = gssapi.RequirementFlag.mutual_authentication in context.actual_flags
print(response.status, requests, "complete" if context.complete else "open", "mutual" if mutual else "one-sided")
