package config

import (
	"fmt"
	"testing"
)

func TestCompressionOrder(t *testing.T) {
	for text, want := range map[string]string{
		"lz4:lzs": "[oc-lz4 lzs]", "lzs:lz4": "[lzs oc-lz4]", "lzs": "[lzs oc-lz4]", "LZS, oc-lz4": "[lzs oc-lz4]",
		"lzs:100": "[lzs oc-lz4]", "lz4:10": "[lzs oc-lz4]", "lzs:10": "[oc-lz4 lzs]", "lz4:1 lzs:2": "[lzs oc-lz4]",
		"": "[oc-lz4 lzs]", "deflate:lzs": "[lzs oc-lz4]",
	} {
		c := mustParse(t, least+"compression-algo-priority = "+text+"\n")
		if got := fmt.Sprint(c.Global.CompressionOrder); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if c := mustParse(t, least+"no-compress-limit = 1\n"); c.Vhosts[0].NoCompressLimit != 64 {
		t.Errorf("no-compress-limit = 1 is %d", c.Vhosts[0].NoCompressLimit)
	}
}
