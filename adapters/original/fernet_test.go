package original

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"testing"
)

// From the specification's verify.json and invalid.json, without those about a token's age, which does not matter here.
func TestFernetSpecification(t *testing.T) {
	t.Parallel()
	k, err := base64.URLEncoding.DecodeString("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")
	if err != nil {
		t.Fatal(err)
	}
	const good = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="
	if text, err := open(k, good); err != nil || string(text) != "hello" {
		t.Errorf("got %q, %v, want hello", text, err)
	}
	for what, token := range map[string]string{
		"incorrect mac":  "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
		"too short":      "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA==",
		"invalid base64": "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
		"payload size not multiple of block size": "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
		"payload padding error":                   "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
		"incorrect IV (causes padding error)":     "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
		"very short payload size":                 "gAAAAABdnQ1TUKh2OE_ggbyCIxfg",
		"super short payload size":                "gAAA",
		"nothing":                                 "",
		"another version":                         "gQAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==",
		"something behind it":                     good + "AAAA",
	} {
		if text, err := open(k, token); !errors.Is(err, errToken) {
			t.Errorf("%s: got %q, %v, want error %v", what, text, err, errToken)
		}
	}
}

// A token whose signature is right may have any padding.
func TestFernetPadding(t *testing.T) {
	t.Parallel()
	k := []byte("0123456789abcdef0123456789abcdef")
	for last, good := range map[byte]bool{0: false, 1: true, 16: false, 17: false, 255: false} {
		block, err := aes.NewCipher(k[16:])
		if err != nil {
			t.Fatal(err)
		}
		text := append([]byte("fifteen letters"), last)
		raw := append([]byte{fernetVersion, 8: 0}, make([]byte, aes.BlockSize)...)
		raw = append(raw, text...)
		cipher.NewCBCEncrypter(block, raw[fernetHeader:fernetHeader+aes.BlockSize]).CryptBlocks(raw[fernetHeader+aes.BlockSize:], text)
		h := hmac.New(sha256.New, k[:16])
		h.Write(raw)
		if plain, err := open(k, base64.URLEncoding.EncodeToString(h.Sum(raw))); (err == nil) != good || good && string(plain) != "fifteen letters" {
			t.Errorf("padding %d: got %q, %v, want it to open: %v", last, plain, err, good)
		}
	}
}

// Made with Python's cryptography 38.0.4, as the original derives its key.
func TestKeyDerivation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ setting, token, want string }{
		{setting44, "gAAAAABrCmvc7Eu0dI-sAb8dq_Ro0HoCJ2UjKA7Izsu2KDNMlUsKpTipRW3390BEgE_ggb6SBaYHIaSP2Rpcp3LAsG7P9byJS_qRgASZJSdf16bvtSjOcYw=", "sk-ant-original-0123456789"},
		{setting44, "gAAAAABrCmvcZIIfgjdcbJd9g8W9aObxb0rPMd2SFTsX-UPmje01nfc_pmiwDu0ria8hawhHMPKkFm_nlGSLeRq5I5-C1am-RDwFMqSrsMExlam1ToaA37k=", "sk-openai-original-42"},
		{"0123456789abcdef0123456789abcdef", "gAAAAABrCmvcmfCHSqsSzlOVISblTO35e-euzqi0MRkPY0-NSM_SejrNU7tcMpF1dSNBUWXKKU3h6OgQkyO32l2UfMeyHg_efD7KLO0MI0uMcXn63-zVx4s=", "sk-ant-original-0123456789"},
		{"schlüssel", "gAAAAABrCmvctKNZ0_oBSOfRr1U1b4Oz8zKth-vdSO3tFYozgyUfhDFyu5pmtD1pypB7nPxStpCcDNF15F0kD-5OQTtQCCPqrw==", "x"},
	} {
		if text, err := open(key(c.setting), c.token); err != nil || string(text) != c.want {
			t.Errorf("%q: got %q, %v, want %q", c.setting, text, err, c.want)
		}
	}
	// A token under the decoded setting is not one that the original made.
	const decoded = "gAAAAABrCmvcOvUpJ3O36C-y75Mf_JZGc4JHSF81wdL_j8BkEdn84CjLUJy62uUZJgnOcjNWS0uLVB5uT5Xz7LlgTWLAXnEz7HpF8bN5WmS0K1WBPeVQacc="
	if text, err := open(key(setting44), decoded); !errors.Is(err, errToken) {
		t.Errorf("got %q, %v, want error %v", text, err, errToken)
	}
}

const setting44 = "mKZ0m6Yl1h0Yj6m0hV6Jm0c3JcQ9mC5n0oS3l8Cw1yE="
