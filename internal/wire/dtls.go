package wire

import "slices"

// Suite is a DTLS cipher suite by its IANA number.
type Suite uint16

// Suites a DTLS channel can have here. In legacy mode no key is exchanged, so
// "ECDHE-RSA" is a number and no more.
const (
	SuiteRSAAES128GCM        Suite = 0x009c
	SuiteRSAAES256GCM        Suite = 0x009d
	SuiteECDHEECDSAAES128GCM Suite = 0xc02b
	SuiteECDHEECDSAAES256GCM Suite = 0xc02c
	SuiteECDHERSAAES128GCM   Suite = 0xc02f
	SuiteECDHERSAAES256GCM   Suite = 0xc030
	SuitePSKAES128GCM        Suite = 0x00a8
	SuitePSKAES256GCM        Suite = 0x00a9
	SuitePSKAES128CCM        Suite = 0xc0a4
	SuitePSKAES256CCM        Suite = 0xc0a5
	SuitePSKChaCha20         Suite = 0xccab
)

// Bytes a packet grows by in a record (RFC 6347 section 4.1).
const (
	recordHeader   = 13
	gcmOverhead    = recordHeader + 8 + 16  // RFC 5288; CCM with 16 bytes of tag, RFC 6655
	chachaOverhead = recordHeader + 16      // RFC 7905
	anyOverhead    = recordHeader + 20 + 48 // what openconnect assumes of a suite it does not know
	udpHeader      = 8
	typeByte       = 1
)

// Overhead is how many bytes a packet grows by on the DTLS channel: UDP header,
// record and type byte, without the IP header.
func (s Suite) Overhead() int {
	switch s {
	case SuiteRSAAES128GCM, SuiteRSAAES256GCM, SuiteECDHEECDSAAES128GCM, SuiteECDHEECDSAAES256GCM,
		SuiteECDHERSAAES128GCM, SuiteECDHERSAAES256GCM, SuitePSKAES128GCM, SuitePSKAES256GCM,
		SuitePSKAES128CCM, SuitePSKAES256CCM:
		return udpHeader + gcmOverhead + typeByte
	case SuitePSKChaCha20:
		return udpHeader + chachaOverhead + typeByte
	}
	return udpHeader + anyOverhead + typeByte
}

// pskNegotiate is the name that asks for a real handshake with a pre-shared key
// (draft-mavrogiannopoulos-openconnect-04 section 2.1.5).
const pskNegotiate = "PSK-NEGOTIATE"

// legacySuites are the names of suites in CONNECT, and which of the two headers
// they belong to. DTLS 1.2 only: what else stands in X-DTLS-CipherSuite means a
// DTLS of before the standard, which no library speaks.
var legacySuites = [...]struct {
	name     string
	header12 bool
	suite    Suite
}{
	{"ECDHE-RSA-AES256-GCM-SHA384", true, SuiteECDHERSAAES256GCM},
	{"ECDHE-RSA-AES128-GCM-SHA256", true, SuiteECDHERSAAES128GCM},
	{"ECDHE-ECDSA-AES256-GCM-SHA384", true, SuiteECDHEECDSAAES256GCM},
	{"ECDHE-ECDSA-AES128-GCM-SHA256", true, SuiteECDHEECDSAAES128GCM},
	{"AES256-GCM-SHA384", true, SuiteRSAAES256GCM},
	{"AES128-GCM-SHA256", true, SuiteRSAAES128GCM},
	{"OC-DTLS1_2-AES256-GCM", false, SuiteRSAAES256GCM},
	{"OC-DTLS1_2-AES128-GCM", false, SuiteRSAAES128GCM},
}

// masterSecretLen is the length of X-DTLS-Master-Secret in bytes.
const masterSecretLen = 48

// DTLSOffer is what a client's CONNECT says of DTLS.
type DTLSOffer struct {
	MasterSecret Secret   // 48 bytes, or nil: none that can be used
	Suites       []string // X-DTLS-CipherSuite
	Suites12     []string // X-DTLS12-CipherSuite
	Encodings    []string // X-DTLS-Accept-Encoding
}

// PSK says that the client can do a handshake with a pre-shared key.
func (o *DTLSOffer) PSK() bool { return slices.Contains(o.Suites, pskNegotiate) }

// PSKLast says that PSK-NEGOTIATE ends a list of several names: openconnect
// built with OpenSSL. Up to 9.12 such a client exports its key once per process
// and presents a stale one after a reconnect (openconnect openssl-dtls.c).
func (o *DTLSOffer) PSKLast() bool {
	return len(o.Suites) > 1 && o.Suites[len(o.Suites)-1] == pskNegotiate
}

// DTLSMode is how the keys of the DTLS channel are agreed on.
type DTLSMode uint8

// Modes.
const (
	DTLSNone   DTLSMode = iota // CSTP only
	DTLSPSK                    // handshake with a key exported from the CSTP channel's TLS
	DTLSLegacy                 // "resumption" of a session that never was, with the client's master secret
)

// DTLSChoice is what the server makes of an offer.
type DTLSChoice struct {
	Mode     DTLSMode
	Suite    Suite  // legacy
	Name     string // of the suite, as the reply says it
	Header12 bool   // in X-DTLS12-CipherSuite
}

// Choose picks the mode: PSK if psk allows it, else the first of the suites in
// legacy that the client has too. psk means also that the CSTP channel's TLS
// can export a key.
func (o *DTLSOffer) Choose(psk bool, legacy []Suite) DTLSChoice {
	if psk && o.PSK() {
		return DTLSChoice{Mode: DTLSPSK, Name: pskNegotiate}
	}
	if o.MasterSecret == nil {
		return DTLSChoice{}
	}
	for _, suite := range legacy {
		for _, s := range legacySuites {
			offered := o.Suites
			if s.header12 {
				offered = o.Suites12
			}
			if s.suite == suite && slices.Contains(offered, s.name) {
				return DTLSChoice{DTLSLegacy, s.suite, s.name, s.header12}
			}
		}
	}
	return DTLSChoice{}
}
