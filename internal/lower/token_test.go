package lower

import (
	"encoding/base64"
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

// A renewed token is used in place of the one it descends from, and of no other.
func TestRenewed(t *testing.T) {
	t.Parallel()
	token := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	inFile, later, earlier := token(`{"iat":10,"exp":100}`), token(`{"iat":50,"exp":150}`), token(`{"iat":5,"exp":50}`)
	for name, c := range map[string]struct {
		renewed      Renewed
		inFile, want string
	}{
		"nothing":                {Renewed{}, inFile, inFile},
		"nothing of nothing":     {Renewed{}, "", ""},
		"its own":                {Renewed{later, digest(inFile)}, inFile, later},
		"another in the file":    {Renewed{later, digest(inFile)}, earlier, earlier},
		"one without an end":     {Renewed{later, digest(inFile)}, "static", "static"},
		"one that ends before":   {Renewed{earlier, digest(inFile)}, inFile, inFile},
		"of a static one":        {Renewed{"other", digest("static")}, "static", "static"},
		"no token in the Secret": {Renewed{"", digest(inFile)}, inFile, inFile},
	} {
		if got := c.renewed.over(c.inFile); got != c.want {
			t.Errorf("%s: %q is used, want %q", name, got, c.want)
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
