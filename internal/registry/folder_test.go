package registry

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/internal/history"
	"github.com/tessera-k8s/tessera/internal/keys"
)

const good = `{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: x, user: x}}],
clusters: [{name: x, cluster: {server: "https://127.0.0.1:%d"}}], users: [{name: x, user: {token: very-secret}}]}`

// story runs a Folder and collects what it does as lines.
type story struct {
	t      *testing.T
	dir    string
	events chan string
}

func newStory(t *testing.T) *story {
	s := &story{t: t, dir: t.TempDir(), events: make(chan string, 100)}
	folder := &Folder{
		Dir: s.dir, Log: slog.New(slog.DiscardHandler),
		Start: func(ctx context.Context, name string, config *rest.Config) error {
			s.events <- "start " + name + " " + config.Host
			<-ctx.Done()
			s.events <- "end " + name
			return nil
		},
		Broken: func(name, text string) {
			if strings.Contains(text, "very-secret") {
				t.Errorf("the fault shows a credential: %s", text)
			}
			s.events <- fmt.Sprintf("broken %s %t", name, text != "")
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- folder.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// write replaces a file at one stroke, as a mounted Secret does.
func (s *story) write(name, text string) {
	s.t.Helper()
	temporary := filepath.Join(s.dir, "."+name)
	if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) expect(want ...string) {
	s.t.Helper()
	for _, event := range want {
		select {
		case got := <-s.events:
			if got != event {
				s.t.Fatalf("got %q, want %q", got, event)
			}
		case <-time.After(20 * time.Second):
			s.t.Fatalf("nothing happened, want %q", event)
		}
	}
}

func TestFolder(t *testing.T) {
	s := newStory(t)
	s.write("a.kubeconfig", fmt.Sprintf(good, 1))
	s.expect("start a https://127.0.0.1:1")
	s.write("notes.txt", "not a cluster")
	s.write("b.kubeconfig", "no: [kubeconfig very-secret")
	s.expect("broken b true")
	s.write("b.kubeconfig", fmt.Sprintf(good, 2))
	s.expect("broken b false", "start b https://127.0.0.1:2")
	// A file that breaks leaves its cluster running; mended with another server, the cluster starts anew.
	s.write("b.kubeconfig", "")
	s.expect("broken b true")
	s.write("b.kubeconfig", fmt.Sprintf(good, 3))
	s.expect("end b", "broken b false", "start b https://127.0.0.1:3")
	s.remove("b.kubeconfig")
	s.expect("end b")
	s.write("Not_A_Name.kubeconfig", fmt.Sprintf(good, 4))
	s.expect("broken Not_A_Name true")
	s.remove("Not_A_Name.kubeconfig")
	s.expect("broken Not_A_Name false")
}

// A cluster whose history went back is started again by itself, one that ends for another reason is not.
func TestAClusterThatWentBackStartsAnew(t *testing.T) {
	s := &story{t: t, dir: t.TempDir(), events: make(chan string, 100)}
	ends := []error{history.ErrWentBack, history.ErrWentBack, errors.New("something else")}
	folder := &Folder{Dir: s.dir, Log: slog.New(slog.DiscardHandler), Start: func(context.Context, string, *rest.Config) error {
		end := ends[0]
		ends = ends[1:]
		s.events <- "ends: " + end.Error()
		return end
	}}
	s.write("a.kubeconfig", fmt.Sprintf(good, 1))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- folder.Run(ctx) }()
	back := "ends: " + history.ErrWentBack.Error()
	s.expect(back, back, "ends: something else")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(s.events) > 0 {
		t.Errorf("it went on: %s", <-s.events)
	}
}

func TestFolderThatIsMissing(t *testing.T) {
	folder := &Folder{Dir: "/no/such/folder", Log: slog.New(slog.DiscardHandler)}
	if err := folder.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "/no/such/folder") {
		t.Errorf("error %v does not name the folder", err)
	}
}

// Another token for the same server is sent from then on, and nothing starts anew for it: no watch ends, no hold is lost.
func TestANewTokenIsSwapped(t *testing.T) {
	seen := make(chan string, 100)
	var refused atomic.Value
	refused.Store("")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+refused.Load().(string) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		seen <- r.Header.Get("Authorization")
	}))
	defer server.Close()
	clients := make(chan *rest.RESTClient, 2)
	s := &story{t: t, dir: t.TempDir()}
	var told atomic.Int64 // the end of the token that was told last
	folder := &Folder{Dir: s.dir, Log: slog.New(slog.DiscardHandler), Token: func(_ string, life Life) {
		told.Store(life.Ends.Unix())
	}, Start: func(ctx context.Context, _ string, config *rest.Config) error {
		config.GroupVersion, config.NegotiatedSerializer = &corev1.SchemeGroupVersion, scheme.Codecs.WithoutConversion()
		client, err := rest.UnversionedRESTClientFor(config)
		if err != nil {
			t.Error(err)
		}
		clients <- client
		<-ctx.Done()
		return nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- folder.Run(ctx) }()
	defer func() { cancel(); <-done }()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	kubeconfig := func(token string) string {
		return fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: x, user: x}}],
clusters: [{name: x, cluster: {server: %q, certificate-authority-data: %s}}], users: [{name: x, user: {token: %s}}]}`, server.URL, ca, token)
	}
	s.write("a.kubeconfig", kubeconfig("one"))
	client := <-clients
	sent := func(token string) {
		t.Helper()
		for begin := time.Now(); ; {
			client.Get().AbsPath("/").Do(t.Context())
			if got := <-seen; got == "Bearer "+token {
				break
			} else if time.Since(begin) > 20*time.Second {
				t.Fatalf("%q is sent, want the token %s", got, token)
			}
		}
	}
	ends := func(exp int) string {
		return "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, exp)) + ".c2ln"
	}
	sent("one")
	s.write("a.kubeconfig", kubeconfig("two"))
	sent("two")
	s.write("a.kubeconfig", kubeconfig(ends(100)))
	sent(ends(100))
	folder.Offer("a", ends(200))
	sent(ends(200))
	s.write("a.kubeconfig", kubeconfig(ends(50))) // Something puts an old one back.
	folder.Offer("a", ends(300))
	sent(ends(300))
	refused.Store(ends(300)) // The cluster was built anew.
	sent(ends(50))
	if got := told.Load(); got != 50 {
		t.Errorf("the token that is sent is said to end at %d, want 50", got)
	}
	refused.Store("")
	folder.Offer("a", ends(400))
	sent(ends(400))
	folder.Offer("a", "") // Its Secret is deleted.
	sent(ends(50))
	if len(clients) > 0 {
		t.Error("the cluster was started anew")
	}
}

// A cluster whose kubeconfig holds a token that has ended starts with the renewed one, not with a refusal.
func TestStartWithARenewedToken(t *testing.T) {
	ends := func(exp int) string {
		return "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, exp)) + ".c2ln"
	}
	s := &story{t: t, dir: t.TempDir()}
	s.write("a.kubeconfig", strings.Replace(fmt.Sprintf(good, 1), "very-secret", ends(1), 1))
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: TokenSecret("a"), Labels: map[string]string{keys.TokenOf: "a"}},
		Data:       map[string][]byte{TokenKey: []byte(ends(2))},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := make(chan struct{})
	first := make(chan Life, 10)
	folder := &Folder{
		Dir: s.dir, Log: slog.New(slog.DiscardHandler), Token: func(_ string, life Life) { first <- life },
		Start: func(ctx context.Context, _ string, _ *rest.Config) error { close(started); <-ctx.Done(); return nil },
	}
	done := make(chan error, 1)
	go func() { done <- folder.RunWithTokens(ctx, fake.NewClientset(secret), "ns") }()
	<-started
	if life := <-first; life.Ends.Unix() != 2 {
		t.Errorf("it starts with the token that ends at %s", life.Ends)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
