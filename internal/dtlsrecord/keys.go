package dtlsrecord

import (
	"crypto/cipher"
	"crypto/hmac"
	"fmt"
	"hash"
)

// Secret is what a handshake leaves for the record layer.
type Secret struct {
	Master       [48]byte
	ClientRandom [32]byte
	ServerRandom [32]byte
}

// Clear overwrites the secret.
func (s *Secret) Clear() { *s = Secret{} }

// half protects the records of one direction.
type half struct {
	aead     cipher.AEAD
	iv       [nonceLen]byte // of a GCM suite only the first four bytes
	explicit int
}

// NewServer makes the server's ends. The first record sealed gets the number
// next: the handshake has used the ones before it, for its Finished.
func (s Suite) NewServer(secret *Secret, next uint64) (*Sealer, *Opener) {
	client, server := s.derive(secret)
	return &Sealer{half: server, next: next}, &Opener{half: client}
}

// NewClient makes the client's ends.
func (s Suite) NewClient(secret *Secret, next uint64) (*Sealer, *Opener) {
	client, server := s.derive(secret)
	return &Sealer{half: client, next: next}, &Opener{half: server}
}

// derive expands the master secret into both directions' keys, RFC 5246
// section 6.3. AEAD suites have no MAC keys.
func (s Suite) derive(secret *Secret) (client, server half) {
	block := make([]byte, 2*s.keyLen+2*s.ivLen)
	expand(block, s.newHash, secret.Master[:], "key expansion", secret.ServerRandom[:], secret.ClientRandom[:])
	take := func(n int) []byte {
		b := block[:n]
		block = block[n:]
		return b
	}
	all := block
	clientKey, serverKey := take(s.keyLen), take(s.keyLen)
	client, server = s.newHalf(clientKey), s.newHalf(serverKey)
	copy(client.iv[:], take(s.ivLen))
	copy(server.iv[:], take(s.ivLen))
	clear(all)
	return client, server
}

func (s Suite) newHalf(key []byte) half {
	aead, err := s.newAEAD(key)
	if err != nil { // the key's length is the suite's
		panic(fmt.Sprintf("dtlsrecord: internal error: %s: %v", s, err))
	}
	return half{aead: aead, explicit: s.explicit}
}

// expand fills out from secret, label and seed: the PRF of RFC 5246 section 5.
func expand(out []byte, newHash func() hash.Hash, secret []byte, label string, seed ...[]byte) {
	mac := hmac.New(newHash, secret)
	sum := func(a []byte, withSeed bool) []byte {
		mac.Reset()
		mac.Write(a)
		if withSeed {
			mac.Write([]byte(label))
			for _, s := range seed {
				mac.Write(s)
			}
		}
		return mac.Sum(nil)
	}
	a := sum(nil, true) // A(1) = HMAC(secret, A(0)), A(0) being label and seed
	for len(out) > 0 {
		out = out[copy(out, sum(a, true)):]
		a = sum(a, false)
	}
}
