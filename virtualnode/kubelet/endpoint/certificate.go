package endpoint

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
	"sync"
	"time"
)

// certificateLife is how long a certificate that is made here is good; another is made after half of it.
const certificateLife = 30 * 24 * time.Hour

// Certificates are made for the address of the process: signed by a CA from files, or by themselves. An API server that is not told
// of a CA (--kubelet-certificate-authority) verifies none. It is safe for concurrent use.
type Certificates struct {
	address               func() string
	signerCert, signerKey string
	now                   func() time.Time
	mu                    sync.Mutex
	made                  *tls.Certificate
	madeFor               string
	madeAt                time.Time
}

// NewCertificates makes certificates for an address, which may become another one. The files are those of a CA, "" for none. It tells at
// once of a CA that cannot be used.
func NewCertificates(signerCert, signerKey string, address func() string) (*Certificates, error) {
	c := &Certificates{address: address, signerCert: signerCert, signerKey: signerKey, now: time.Now}
	_, err := c.Get(nil)
	return c, err
}

// Get is for tls.Config.GetCertificate.
func (c *Certificates) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	address, now := c.address(), c.now()
	if c.made != nil && c.madeFor == address && now.Sub(c.madeAt) < certificateLife/2 {
		return c.made, nil
	}
	made, err := c.issue(address, now)
	if err != nil && c.made != nil && c.madeFor == address {
		return c.made, nil // The signer's files are being replaced: the last one is good for a while.
	}
	if err != nil {
		return nil, fmt.Errorf("making a serving certificate for %q: %w", address, err)
	}
	c.made, c.madeFor, c.madeAt = made, address, now
	return made, nil
}

func (c *Certificates) issue(address string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "tessera-virtualnode"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(address); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else if address != "" {
		template.DNSNames = []string{address}
	}
	chain, signer, err := c.signer(template, key)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, chain[0], key.Public(), signer)
	if err != nil {
		return nil, err
	}
	made := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if chain[0] != template {
		for _, above := range chain {
			made.Certificate = append(made.Certificate, above.Raw)
		}
	}
	return made, nil
}

// signer is who signs a certificate, read anew each time, with those above it.
func (c *Certificates) signer(template *x509.Certificate, key crypto.Signer) ([]*x509.Certificate, crypto.Signer, error) {
	if c.signerCert == "" {
		return []*x509.Certificate{template}, key, nil
	}
	pair, err := tls.LoadX509KeyPair(c.signerCert, c.signerKey)
	if err != nil {
		return nil, nil, fmt.Errorf("reading signerCertFile and signerKeyFile: %w", err)
	}
	var chain []*x509.Certificate
	for _, der := range pair.Certificate {
		above, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("reading signerCertFile: %w", err)
		}
		chain = append(chain, above)
	}
	if !chain[0].IsCA {
		return nil, nil, fmt.Errorf("signerCertFile %s is no CA", c.signerCert)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("signerKeyFile %s cannot sign", c.signerKey)
	}
	return chain, signer, nil
}
