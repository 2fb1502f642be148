package registry

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"
)

func TestLifeOfAToken(t *testing.T) {
	t.Parallel()
	token := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	const day = 24 * time.Hour
	now := time.Unix(100*int64(day.Seconds()), 0)
	month := token(`{"iat":7776000,"exp":10368000}`) // 30 days, of which 10 have gone and 20 are left at day 100.
	for name, c := range map[string]struct {
		token  string
		ends   bool // it says when
		ending time.Duration
	}{
		"a month":              {month, true, 13*day + time.Second},
		"a day":                {token(`{"iat":8640000,"exp":8726400}`), true, 16*time.Hour + time.Second},
		"no end":               {token(`{"iat":8640000}`), false, 0},
		"not a JSON web token": {"plain-text", false, 0},
		"no claims":            {"a.b!.c", false, 0},
	} {
		life := lifeOf(c.token)
		if life.Ends.IsZero() == c.ends {
			t.Errorf("%s: ends at %s", name, life.Ends)
		}
		if life.Ending(now) {
			t.Errorf("%s: it is said to end too early", name)
		}
		if c.ends && (life.Ending(now.Add(c.ending-2*time.Second)) || !life.Ending(now.Add(c.ending))) {
			t.Errorf("%s: the warning does not come after %s", name, c.ending)
		}
	}
}

// The token that ends later is used, and the other where the API server does not take it.
func TestChooseToken(t *testing.T) {
	t.Parallel()
	token := func(exp int, account string) string {
		claims := fmt.Appendf(nil, `{"iat":10,"exp":%d,"sub":"system:serviceaccount:ns:%s"}`, exp, account)
		return "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".c2ln"
	}
	inFile, later := token(100, "a"), token(150, "a")
	for name, c := range map[string]struct {
		inFile, offered string
		want            tokens
	}{
		"nothing":                        {inFile, "", tokens{inFile, ""}},
		"no token at all":                {"", later, tokens{"", ""}},
		"one that ends later":            {inFile, later, tokens{later, inFile}},
		"one that ends before":           {later, inFile, tokens{later, ""}},
		"the same":                       {inFile, inFile, tokens{inFile, ""}},
		"one that does not end":          {"static", later, tokens{"static", ""}},
		"of another account":             {inFile, token(150, "b"), tokens{inFile, ""}},
		"what is offered does not end":   {inFile, "static", tokens{inFile, ""}},
		"what is offered is not a token": {inFile, "a.b.c", tokens{inFile, ""}},
	} {
		if got := choose(c.inFile, c.offered); got != c.want {
			t.Errorf("%s: %v is used, want %v", name, got, c.want)
		}
	}
}

func TestWhenATokenIsRenewed(t *testing.T) {
	t.Parallel()
	for claims, want := range map[string]int64{
		`{"iat":100,"exp":200,"sub":"system:serviceaccount:ns:a"}`:                                              150,
		`{"iat":100,"sub":"system:serviceaccount:ns:a"}`:                                                        0, // It does not end.
		`{"iat":100,"exp":200,"sub":"somebody"}`:                                                                0,
		`{"iat":100,"exp":200,"sub":"system:serviceaccount:ns:a","kubernetes.io":{"pod":{"name":"p"}}}`:         0,
		`{"iat":100,"exp":200,"sub":"system:serviceaccount:ns:a","kubernetes.io":{"secret":{"name":"s"}}}`:      0,
		`{"iat":100,"exp":200,"sub":"system:serviceaccount:ns:a","kubernetes.io":{"namespace":"ns"}}`:           150,
		`{"iat":100,"exp":200,"sub":"system:serviceaccount:ns:a","kubernetes.io":{"serviceaccount":{"x":"y"}}}`: 150,
	} {
		at := lifeOf("e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln").Renew()
		if want == 0 && !at.IsZero() || want != 0 && at.Unix() != want {
			t.Errorf("%s: renewed at %s, want %d", claims, at, want)
		}
	}
}
