package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"testing"
	"time"
)

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	names = []string{"tessera-admission.tessera-system.svc", "127.0.0.1"}
	lives = Lives{Serving: 90 * time.Hour, Authority: 900 * time.Hour, Overlap: time.Hour}
)

func renewed(t *testing.T, now time.Time, data map[string][]byte) map[string][]byte {
	t.Helper()
	next, err := renew(now, data, names, lives)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// believed reports whether somebody who has the bundle of one Secret takes the certificate of another.
func believed(t *testing.T, now time.Time, bundle, served map[string][]byte) bool {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle[BundleKey]) {
		t.Fatal("there is no certificate in the bundle")
	}
	pair, err := tls.X509KeyPair(served[certKey], served[keyKey])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, DNSName: name}); err != nil {
			return false
		}
	}
	return true
}

func with(data map[string][]byte, key, value string) map[string][]byte {
	changed := maps.Clone(data)
	changed[key] = []byte(value)
	return changed
}

func TestWhatIsRenewed(t *testing.T) {
	first := renewed(t, start, nil)
	other := renewed(t, start, nil)
	for name, c := range map[string]struct {
		after         time.Duration
		data          map[string][]byte
		serving, root bool // whether these are made anew
	}{
		"nothing is due":                 {0, first, false, false},
		"nothing is due later":           {59 * time.Hour, first, false, false},
		"two thirds have passed":         {61 * time.Hour, first, true, false},
		"it has ended":                   {91 * time.Hour, first, true, false},
		"two thirds of the authority":    {601 * time.Hour, first, true, true},
		"the authority has ended":        {901 * time.Hour, first, true, true},
		"the key of another certificate": {0, with(first, keyKey, string(other[keyKey])), true, false},
		"the key of another authority":   {0, with(first, caKeyKey, string(other[caKeyKey])), false, true},
		"another authority":              {0, with(with(first, caKeyKey, string(other[caKeyKey])), BundleKey, string(other[BundleKey])), true, false},
		"no bundle":                      {0, with(first, BundleKey, ""), true, true},
		"garbage":                        {0, map[string][]byte{BundleKey: []byte("x"), caKeyKey: nil, certKey: []byte("-----BEGIN"), keyKey: {0}}, true, true},
		"of a certificate manager":       {0, map[string][]byte{BundleKey: first[BundleKey], certKey: first[certKey], keyKey: first[keyKey]}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := start.Add(c.after)
			next := renewed(t, now, c.data)
			if got := !bytes.Equal(next[certKey], c.data[certKey]); got != c.serving {
				t.Errorf("certificate made anew: %t", got)
			}
			if got := !bytes.Equal(next[caKeyKey], c.data[caKeyKey]); got != c.root {
				t.Errorf("authority made anew: %t", got)
			}
			if !believed(t, now, next, next) {
				t.Error("the certificate is not believed")
			}
			if again := renewed(t, now, next); !maps.EqualFunc(again, next, bytes.Equal) {
				t.Error("something is due at once again")
			}
		})
	}
	if more, err := renew(start, first, append(names, "other.example"), lives); err != nil || bytes.Equal(more[certKey], first[certKey]) {
		t.Errorf("a new name needs a new certificate: %v", err)
	}
}

// For five lives of an authority, in steps smaller than the overlap: whoever has a bundle that is half an overlap old, or any newer one,
// believes what is served, and whoever serves what is that old is believed by all.
func TestRotationIsNotNoticed(t *testing.T) {
	const step = 30 * time.Minute
	short := Lives{Serving: 9 * time.Hour, Authority: 60 * time.Hour, Overlap: time.Hour}
	var data, before map[string][]byte
	authorities := map[string]bool{}
	for now := start; now.Before(start.Add(5 * short.Authority)); now = now.Add(step) {
		next, err := renew(now, data, names, short)
		if err != nil {
			t.Fatal(err)
		}
		if before, data = data, next; before == nil {
			continue
		}
		if !believed(t, now, before, data) {
			t.Fatalf("after %s: an old bundle does not believe a new certificate", now.Sub(start))
		}
		if !believed(t, now, data, before) {
			t.Fatalf("after %s: a new bundle does not believe an old certificate", now.Sub(start))
		}
		if n := len(parse(data[BundleKey])); n > 2 {
			t.Fatalf("after %s: %d authorities are believed", now.Sub(start), n)
		}
		authorities[string(data[caKeyKey])] = true
	}
	if len(authorities) < 5 {
		t.Errorf("%d authorities in all that time: nothing was rotated", len(authorities))
	}
}

func TestLate(t *testing.T) {
	data := renewed(t, start, nil)
	pair, err := tls.X509KeyPair(data[certKey], data[keyKey])
	if err != nil {
		t.Fatal(err)
	}
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	for after, want := range map[time.Duration]bool{0: false, 66 * time.Hour: false, 68 * time.Hour: true, 100 * time.Hour: true} {
		if got := late(start.Add(after), &pair); got != want {
			t.Errorf("after %s: late %t", after, got)
		}
		if got, want := Left(start.Add(after), get), lives.Serving-after; got != want {
			t.Errorf("after %s: %s left, want %s", after, got, want)
		}
	}
}
