package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// The keys of the Secret. BundleKey has the authority's certificate first, then older ones that have not ended: what they have signed
// may still be served.
const (
	BundleKey = "ca.crt"
	caKeyKey  = "ca.key"
	certKey   = corev1.TLSCertKey
	keyKey    = corev1.TLSPrivateKeyKey
)

// skew is how much earlier than now a certificate begins: clocks differ.
const skew = 5 * time.Minute

// Lives are how long certificates are good for. Each is renewed once two thirds have passed.
type Lives struct {
	Serving, Authority time.Duration
	// Overlap is how long a new authority is made known before anything that it has signed is served.
	Overlap time.Duration
}

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// renew returns what the Secret is to hold at that time, given what it holds: the same map if nothing is due. What cannot be read is
// made anew. names are DNS names and IP addresses under which admission is called.
func renew(now time.Time, data map[string][]byte, names []string, lives Lives) (map[string][]byte, error) {
	bundle := running(now, data[BundleKey])
	authority, made := pair{}, false
	if len(bundle) > 0 {
		authority = pair{bundle[0], parseKey(data[caKeyKey])}
	}
	if !authority.whole() || due(now, authority.cert) {
		var err error
		if authority, err = newAuthority(now, lives.Authority); err != nil {
			return nil, err
		}
		bundle, made = append([]*x509.Certificate{authority.cert}, bundle...), true
	}
	young := age(now, authority.cert) < lives.Overlap // Not every API server believes it yet.
	if serves(now, data, names, bundle) && (young || !dueOf(now, data, authority)) {
		if !made && len(bundle) == len(parse(data[BundleKey])) {
			return data, nil
		}
		return written(authority, bundle, data[certKey], data[keyKey])
	}
	serving, err := newServing(now, authority, names, lives.Serving)
	if err != nil {
		return nil, err
	}
	key, err := keyutil.MarshalPrivateKeyToPEM(serving.key)
	if err != nil {
		return nil, fmt.Errorf("encoding serving key: %w", err)
	}
	chain, err := cert.EncodeCertificates(serving.cert)
	if err != nil {
		return nil, fmt.Errorf("encoding serving certificate: %w", err)
	}
	return written(authority, bundle, chain, key)
}

func written(authority pair, bundle []*x509.Certificate, chain, key []byte) (map[string][]byte, error) {
	caKey, err := keyutil.MarshalPrivateKeyToPEM(authority.key)
	if err != nil {
		return nil, fmt.Errorf("encoding the authority's key: %w", err)
	}
	all, err := cert.EncodeCertificates(bundle...)
	if err != nil {
		return nil, fmt.Errorf("encoding the authorities: %w", err)
	}
	return map[string][]byte{BundleKey: all, caKeyKey: caKey, certKey: chain, keyKey: key}, nil
}

// serves reports whether the serving certificate is good: whole, for all names, and signed by one of the bundle.
func serves(now time.Time, data map[string][]byte, names []string, bundle []*x509.Certificate) bool {
	serving, err := tls.X509KeyPair(data[certKey], data[keyKey])
	if err != nil {
		return false
	}
	for _, name := range names {
		if serving.Leaf.VerifyHostname(name) != nil {
			return false
		}
	}
	roots := x509.NewCertPool()
	for _, each := range bundle {
		roots.AddCert(each)
	}
	_, err = serving.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now})
	return err == nil
}

// dueOf reports whether a serving certificate is to be replaced although it is good: by age, or because its authority was.
func dueOf(now time.Time, data map[string][]byte, authority pair) bool {
	chain := parse(data[certKey])
	return len(chain) == 0 || due(now, chain[0]) || chain[0].CheckSignatureFrom(authority.cert) != nil
}

// due reports whether a certificate has had two thirds of its life.
func due(now time.Time, c *x509.Certificate) bool {
	return now.After(c.NotAfter.Add(-life(c) / 3))
}

// life is how long a certificate was meant to be good for when it was made.
func life(c *x509.Certificate) time.Duration { return c.NotAfter.Sub(c.NotBefore) - skew }

func age(now time.Time, c *x509.Certificate) time.Duration { return now.Sub(c.NotBefore) - skew }

// whole reports whether there are both, and the key is that of the certificate.
func (p pair) whole() bool {
	if p.cert == nil || p.key == nil {
		return false
	}
	public, known := p.cert.PublicKey.(interface {
		Equal(other crypto.PublicKey) bool
	})
	return known && public.Equal(p.key.Public())
}

func parse(text []byte) []*x509.Certificate {
	all, err := cert.ParseCertsPEM(text)
	if err != nil {
		return nil
	}
	return all
}

func parseKey(text []byte) crypto.Signer {
	key, err := keyutil.ParsePrivateKeyPEM(text)
	if err != nil {
		return nil
	}
	signer, _ := key.(crypto.Signer)
	return signer
}

// running are the certificates of a bundle that have not ended.
func running(now time.Time, text []byte) (left []*x509.Certificate) {
	for _, each := range parse(text) {
		if now.Before(each.NotAfter) && each.IsCA {
			left = append(left, each)
		}
	}
	return left
}

// newAuthority makes one whose subject is its own: verifiers look for an issuer by name first.
func newAuthority(now time.Time, life time.Duration) (pair, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: fmt.Sprintf("tessera-admission-ca@%d", now.Unix())},
		IsCA:    true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	return sign(now, template, pair{}, life)
}

func newServing(now time.Time, authority pair, names []string, life time.Duration) (pair, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "tessera-admission"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return sign(now, template, authority, life)
}

// sign completes the template, with a key of its own; without an authority it signs itself. Nothing outlives its authority.
func sign(now time.Time, template *x509.Certificate, authority pair, life time.Duration) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, fmt.Errorf("making a key: %w", err)
	}
	template.NotBefore, template.NotAfter = now.Add(-skew), now.Add(life)
	if authority.cert == nil {
		authority = pair{template, key}
	} else if template.NotAfter.After(authority.cert.NotAfter) {
		template.NotAfter = authority.cert.NotAfter
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return pair{}, fmt.Errorf("making a serial number: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority.cert, key.Public(), authority.key)
	if err != nil {
		return pair{}, fmt.Errorf("signing: %w", err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, fmt.Errorf("reading what was signed: %w", err)
	}
	return pair{made, key}, nil
}
