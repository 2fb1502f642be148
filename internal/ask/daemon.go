package ask

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// largestAnswer bounds what is read of an answer, in bytes: no daemon has more to say.
	largestAnswer = 256 << 20
	// largestRefusal bounds what is shown of an answer that is not Tessera's, such as a page of some gateway.
	largestRefusal = 1 << 10
	// idleConnections is how many connections stay open, for the workers of virtualnode ask side by side.
	idleConnections = 25
)

// Daemon is one of Tessera's daemons as its clients reach it. Many may ask at the same time.
type Daemon struct {
	// Name is what errors call it: "extender".
	Name string
	URL  string
	// CAFile signs its certificate; empty: the system's CAs. TokenFile holds a bearer token; empty: none is sent. Both are read
	// for every question, because both are rotated.
	CAFile, TokenFile string
	// Timeout bounds one question.
	Timeout   time.Duration
	UserAgent string

	mu     sync.Mutex
	ca     []byte
	client *http.Client // trusts ca
}

// Refusal is an answer that is no success.
type Refusal struct {
	Daemon string
	Code   int    // of HTTP
	Status string // the same in words
	Text   string // what the daemon says
}

func (r *Refusal) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("asking the %s: %s: %s", r.Daemon, r.Status, r.Text), ": ")
}

// Refused is the HTTP status of an answer that is no success, 0 where err is none such: nobody answered, or nonsense.
func Refused(err error) int {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal.Code
	}
	return 0
}

// Check reports whether CA and token can be read, as a question would.
func (d *Daemon) Check() error {
	if _, err := d.connection(); err != nil {
		return err
	}
	_, err := d.token()
	return err
}

// Do asks once and returns the body of the answer. question is sent as JSON, nil for none. It may block for Timeout.
func (d *Daemon) Do(ctx context.Context, method, path string, question any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	request, err := d.request(ctx, method, path, question)
	if err != nil {
		return nil, err
	}
	client, err := d.connection()
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the %s: %w", d.Name, err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, largestAnswer)) // To its end, so that the connection can be used again.
	if err != nil {
		return nil, fmt.Errorf("reading the %s's answer: %w", d.Name, err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return nil, &Refusal{Daemon: d.Name, Code: answer.StatusCode, Status: answer.Status, Text: refusalText(body)}
	}
	return body, nil
}

func (d *Daemon) request(ctx context.Context, method, path string, question any) (*http.Request, error) {
	var body io.Reader
	if question != nil {
		data, err := json.Marshal(question)
		if err != nil {
			return nil, fmt.Errorf("writing the question to the %s: %w", d.Name, err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(d.URL, "/")+path, body)
	if err != nil {
		return nil, fmt.Errorf("asking the %s: %w", d.Name, err)
	}
	if question != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if d.UserAgent != "" {
		request.Header.Set("User-Agent", d.UserAgent)
	}
	token, err := d.token()
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request, nil
}

func (d *Daemon) token() (string, error) {
	if d.TokenFile == "" {
		return "", nil
	}
	token, err := os.ReadFile(d.TokenFile)
	if err != nil {
		return "", fmt.Errorf("reading the token for the %s: %w", d.Name, err)
	}
	return strings.TrimSpace(string(token)), nil
}

// connection is the client that trusts the CA as its file is now. Connections are kept for as long as that stays the same.
func (d *Daemon) connection() (*http.Client, error) {
	var ca []byte
	if d.CAFile != "" {
		var err error
		if ca, err = os.ReadFile(d.CAFile); err != nil {
			return nil, fmt.Errorf("reading the CA of the %s's certificate: %w", d.Name, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client != nil && bytes.Equal(ca, d.ca) {
		return d.client, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.CAFile != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("reading the CA of the %s's certificate: no certificate in %s", d.Name, d.CAFile)
		}
	}
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	d.ca, d.client = ca, &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, // So there is no HTTP/2, which no daemon offers.
		MaxIdleConnsPerHost: idleConnections, IdleConnTimeout: 90 * time.Second,
	}}
	return d.client, nil
}

// refusalText is the text of {"error": text}, or the body as it came.
func refusalText(body []byte) string {
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &answer) == nil && answer.Error != "" {
		return answer.Error
	}
	return strings.TrimSpace(string(body[:min(len(body), largestRefusal)]))
}
