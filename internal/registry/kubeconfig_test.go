package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A kubeconfig comes from whoever may write a Secret. What it says is refused without a credential in the error.
func TestHostileKubeconfigs(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("very-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	whole := fmt.Sprintf(good, 1)
	user := func(instead string) string { return strings.Replace(whole, "token: very-secret", instead, 1) }
	server := func(more string) string { return strings.Replace(whole, `:1"`, `:1", `+more, 1) }
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("%[2]c: &%[2]c [*%[1]c, *%[1]c, *%[1]c, *%[1]c, *%[1]c, *%[1]c, *%[1]c, *%[1]c, *%[1]c]\n", 'a'+i, 'b'+i)
	}
	cases := map[string]struct{ name, text string }{
		"empty":                        {"a", ""},
		"binary":                       {"a", "\x00\x01\xff"},
		"another kind":                 {"a", "{apiVersion: v1, kind: Pod}"},
		"no context":                   {"a", strings.Replace(whole, "current-context: x", "current-context: y", 1)},
		"no server":                    {"a", strings.Replace(whole, `server: "https://127.0.0.1:1"`, "server: ''", 1)},
		"a user of a wrong type":       {"a", strings.Replace(whole, "{token: very-secret}", "very-secret", 1)},
		"a key that is none":           {"a", user("client-certificate-data: dmVyeS1zZWNyZXQ=, client-key-data: very-secret")},
		"a command":                    {"a", user("exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [very-secret], interactiveMode: Never}")},
		"a plugin":                     {"a", user("auth-provider: {name: gcp, config: {access-token: very-secret}}")},
		"a token of another file":      {"a", user("tokenFile: " + secret)},
		"a certificate of other files": {"a", user("client-certificate: " + secret + ", client-key: " + secret)},
		"a CA of another file":         {"a", server("certificate-authority: " + secret)},
		"a billion laughs":             {"a", bomb},
		"nested deeply":                {"a", strings.Repeat("[", 50_000)},
		"no name":                      {"", whole},
		"a name that is a path":        {"../a", whole},
		"a name of capitals":           {"A", whole},
		"a name of 300 letters":        {strings.Repeat("a", 300), whole},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := Config(test.name, []byte(test.text))
			if err == nil {
				t.Fatalf("accepted, for %s", config.Host)
			}
			if strings.Contains(err.Error(), "very-secret") || len(err.Error()) > 2000 {
				t.Errorf("the error shows too much: %v", err)
			}
		})
	}
	for _, reaching := range []string{
		user("tokenFile: /no/such/file"), user("client-certificate: /no/such/file, client-key: /no/such/file"), server("certificate-authority: /no/such/file"),
	} {
		if _, err := Config("a", []byte(reaching)); err == nil || !strings.Contains(err.Error(), "names other files") {
			t.Errorf("it was not refused for what it says, but for what is there: %v", err)
		}
	}
	if _, err := Config("a", []byte(whole)); err != nil {
		t.Errorf("the whole one: %v", err)
	}
}
