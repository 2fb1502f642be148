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
