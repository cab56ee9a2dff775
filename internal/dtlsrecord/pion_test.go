package dtlsrecord

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pion/dtls/v3/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
	"github.com/pion/dtls/v3/pkg/protocol"
	"github.com/pion/dtls/v3/pkg/protocol/recordlayer"
)

// pionCipher is what pion's AEAD ciphers have in common.
type pionCipher interface {
	Encrypt(*recordlayer.RecordLayer, []byte) ([]byte, error)
	Decrypt(recordlayer.Header, []byte) ([]byte, error)
}

// pionClient is the client's record protection by pion, keys included.
func pionClient(t *testing.T, suite Suite, secret *Secret) pionCipher {
	t.Helper()
	keys, err := prf.GenerateEncryptionKeys(secret.Master[:], secret.ClientRandom[:], secret.ServerRandom[:],
		0, suite.keyLen, suite.ivLen, suite.newHash)
	if err != nil {
		t.Fatal(err)
	}
	var c pionCipher
	if suite.explicit == 0 {
		c, err = ciphersuite.NewChaCha20Poly1305(keys.ClientWriteKey, keys.ClientWriteIV, keys.ServerWriteKey, keys.ServerWriteIV)
	} else {
		c, err = ciphersuite.NewGCM(keys.ClientWriteKey, keys.ClientWriteIV, keys.ServerWriteKey, keys.ServerWriteIV)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Our server and pion's client, from the same secret, understand each other.
func TestAgainstPion(t *testing.T) {
	eachSuite(t, func(t *testing.T, suite Suite) {
		secret := testSecret(20)
		sealer, opener := suite.NewServer(secret, 1)
		client := pionClient(t, suite, secret)
		r := rand.New(rand.NewPCG(20, uint64(suite.id)))
		for i := range 300 {
			msg := make([]byte, r.IntN(1500))
			for j := range msg {
				msg[j] = byte(r.Uint32())
			}
			plain, err := client.Decrypt(recordlayer.Header{}, seal(t, suite, sealer, TypeApplicationData, msg))
			if err != nil || !bytes.Equal(plain[HeaderLen:], msg) {
				t.Fatalf("pion opening ours, %d bytes: %v", len(msg), err)
			}
			sealed := pionSeal(t, client, uint64(i)*7, msg)
			got, err := opener.Open(slices.Clone(sealed))
			if err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("opening pion's, %d bytes: %v", len(msg), err)
			}
		}
	})
}

func pionSeal(t *testing.T, c pionCipher, seq uint64, msg []byte) []byte {
	t.Helper()
	rec := &recordlayer.RecordLayer{
		Header:  recordlayer.Header{Epoch: Epoch, SequenceNumber: seq, Version: protocol.Version1_2},
		Content: &protocol.ApplicationData{Data: msg},
	}
	raw, err := rec.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := c.Encrypt(rec, raw)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}
