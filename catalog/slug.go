package catalog

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// slugHash is the number of hash characters at the end of a slug: 50 bits.
const slugHash = 10

// hash gives the lower-case base32 form of SHA-256 over the full ref, 52 characters of [a-z2-7].
func (r Ref) hash() string {
	sum := sha256.Sum256([]byte(r.String()))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// Slug gives a name for r of at most max characters of [a-z0-9-], for systems that cannot hold a full ref. It reads
// "kind-namespace-name-" and ends with a part of a hash of the full ref, so that refs which look alike without their
// punctuation have different slugs. It never changes for a ref and a max. With a max of 10 or less it is only the hash.
func Slug(r Ref, max int) string {
	hash := r.hash()[:slugHash]
	if max <= slugHash {
		return hash[:max]
	}
	words := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, strings.ToLower(r.Kind+"-"+r.Namespace+"-"+r.Name))
	words = strings.Trim(words[:min(len(words), max-slugHash-1)], "-")
	if words == "" {
		return hash
	}
	return words + "-" + hash
}
