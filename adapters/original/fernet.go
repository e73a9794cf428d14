package original

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
)

// errToken says that a Fernet token does not open: it is damaged, or the key is another one.
var errToken = errors.New("it does not open with this ENCRYPTION_KEY")

const (
	fernetVersion = 0x80
	fernetHeader  = 1 + 8 // version and time
	fernetKey     = 32    // half for the signature, half for the encryption
)

// key returns the Fernet key that the original derived from its setting ENCRYPTION_KEY: the text's bytes if there are
// 32 of them, else their SHA-256. The original never decoded the text, although its README suggests a key in base64.
func key(setting string) []byte {
	if len(setting) == fernetKey {
		return []byte(setting)
	}
	sum := sha256.Sum256([]byte(setting))
	return sum[:]
}

// open returns the plain text of a Fernet token, however old it is: version, time, IV, AES-128-CBC with PKCS #7 padding,
// and HMAC-SHA-256 of all that (https://github.com/fernet/spec).
func open(key []byte, token string) ([]byte, error) {
	raw, err := base64.URLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < fernetHeader+2*aes.BlockSize+sha256.Size || raw[0] != fernetVersion {
		return nil, errToken
	}
	signed, mac := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	h := hmac.New(sha256.New, key[:fernetKey/2])
	h.Write(signed)
	iv, text := signed[fernetHeader:fernetHeader+aes.BlockSize], signed[fernetHeader+aes.BlockSize:]
	if !hmac.Equal(mac, h.Sum(nil)) || len(text)%aes.BlockSize != 0 {
		return nil, errToken
	}
	block, err := aes.NewCipher(key[fernetKey/2:])
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(text))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, text)
	// The signature is right, so the maker of the padding knew the key: how it is wrong may be seen.
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, errToken
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return nil, errToken
		}
	}
	return plain[:len(plain)-pad], nil
}
