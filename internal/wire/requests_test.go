package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var now = time.Unix(1_700_000_000, 0).UTC()

// FuzzRequests gives the same bytes to the decoders of /v1, of /debug and of the avoid list.
func FuzzRequests(f *testing.F) {
	f.Add([]byte(`{"requests":{"cpu":"4","memory":"1Gi"},"owner":{"kind":"ReplicaSet","namespace":"ns","name":"web"},"cluster":"a","node":"a1","ttlSeconds":60}`))
	f.Add([]byte(`{"pod":{"metadata":{"name":"p","namespace":"ns"},"spec":{"containers":[{"resources":{"requests":{"cpu":"-1"}}}]}},"cluster":"a","ttlSeconds":1}`))
	f.Add([]byte(`{"pod":{"metadata":{"name":"p","namespace":"ns","uid":"u"},"spec":{"containers":[{"resources":{"requests":{"cpu":"1e18"}}}]}},"cluster":"a","ttlSeconds":3600}`))
	f.Add([]byte(`{"owner":{"kind":"ReplicaSet","namespace":"shop","name":"web","uid":"u1"},"cluster":"a","seconds":600,"reason":"stuck"}`))
	f.Add([]byte(`{"owner":{"uid":"u1"},"cluster":"a","until":"2026-01-02T03:04:05Z","reason":"stuck"}`))
	f.Add([]byte(`{"owner":{"uid":"u1"},"cluster":"a","until":"9999-12-31T23:59:59Z"}`))
	f.Add([]byte(`{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"2"}}}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := ReadHold(body); err == nil {
			if r.Pod == nil || r.Owner == nil || r.Owner.Name == "" || r.Pod.Namespace != r.Owner.Namespace || r.TTLSeconds < 1 {
				t.Errorf("%+v", r)
			}
			sane(t, r.Pod)
			same(t, r, ReadHold)
		}
		if pod, err := ReadPod(body); err == nil {
			sane(t, pod)
			same(t, pod, ReadPod)
		}
		if entry, err := ReadAvoid(body, now); err == nil {
			text := encode(t, entry)
			again, err := ReadAvoidEntry(text, now)
			if diff := cmp.Diff(entry, again); diff != "" || err != nil || len(text) > largestEntry {
				t.Errorf("%s read back: %v\n%s", text, err, diff)
			}
		}
		if entry, err := ReadAvoidEntry(string(body), now); err == nil {
			if entry.Owner.UID == "" || entry.Cluster == "" || entry.Until.After(now.Add(longestAvoid)) {
				t.Errorf("%+v", entry)
			}
		}
	})
}

func TestAvoid(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ body, want string }{
		"an owner":             {`{"owner":{"uid":"u"},"cluster":"a","seconds":1}`, ""},
		"a pod":                {`{"pod":{"metadata":{"uid":"u"}},"cluster":"a","seconds":86400}`, ""},
		"no JSON":              {`{`, "reading body"},
		"neither":              {`{"cluster":"a","seconds":1}`, "exactly one"},
		"both":                 {`{"owner":{"uid":"u"},"pod":{},"cluster":"a","seconds":1}`, "exactly one"},
		"no UID":               {`{"owner":{},"cluster":"a","seconds":1}`, "owner.uid"},
		"no cluster":           {`{"owner":{"uid":"u"},"seconds":1}`, "cluster"},
		"a UID that is a path": {`{"owner":{"uid":"../u"},"cluster":"a","seconds":1}`, "characters"},
		"a very long UID":      {`{"owner":{"uid":"` + strings.Repeat("u", 300) + `"},"cluster":"a","seconds":1}`, "characters"},
		"no time":              {`{"owner":{"uid":"u"},"cluster":"a"}`, "seconds"},
		"a negative time":      {`{"owner":{"uid":"u"},"cluster":"a","seconds":-1}`, "seconds"},
		"more than a day":      {`{"owner":{"uid":"u"},"cluster":"a","seconds":86401}`, "seconds"},
		"a time that overflows": {
			fmt.Sprintf(`{"owner":{"uid":"u"},"cluster":"a","seconds":%d}`, int64(1)<<62), "seconds",
		},
		"a reason that fills the list": {`{"owner":{"uid":"u"},"cluster":"a","seconds":1,"reason":"` + strings.Repeat("x", largestEntry) + `"}`, "too long"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entry, err := ReadAvoid([]byte(test.body), now)
			switch {
			case test.want == "" && (err != nil || entry.Key() != "u_a"):
				t.Errorf("%+v, error %v", entry, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v does not say %q", err, test.want)
			}
		})
	}
}

func TestAvoided(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		text  string
		until time.Time
		want  string
	}{
		"as it was written":            {text: `{"owner":{"uid":"u"},"cluster":"a","until":"2023-11-14T22:13:21Z"}`, until: now.Add(time.Second)},
		"written for ever by somebody": {text: `{"owner":{"uid":"u"},"cluster":"a","until":"9999-12-31T23:59:59Z"}`, until: now.Add(longestAvoid)},
		"over":                         {text: `{"owner":{"uid":"u"},"cluster":"a"}`},
		"no JSON":                      {text: "u", want: "reading entry"},
		"no time":                      {text: `{"owner":{"uid":"u"},"cluster":"a","until":"soon"}`, want: "reading entry"},
		"nobody":                       {text: `{"cluster":"a"}`, want: "owner.uid"},
		"nowhere":                      {text: `{"owner":{"uid":"u"}}`, want: "cluster"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entry, err := ReadAvoidEntry(test.text, now)
			switch {
			case test.want == "" && (err != nil || !entry.Until.Equal(test.until)):
				t.Errorf("%+v, error %v", entry, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v does not say %q", err, test.want)
			}
		})
	}
}

// The body of POST /v1/holds is written by hand or by a small program: mistakes are said. More cases are in the tests of
// the route.
func TestHold(t *testing.T) {
	t.Parallel()
	good := `{"requests":{"cpu":1},"owner":{"kind":"Job","namespace":"ns","name":"j"},"cluster":"a","ttlSeconds":1}`
	cases := map[string]struct{ body, want string }{
		"whole":                 {good, ""},
		"two bodies":            {good + good, "more after its end"},
		"something after it":    {good + "x", "more after its end"},
		"an unknown key":        {`{"owners":1}`, "unknown field"},
		"a negative amount":     {strings.Replace(good, `"cpu":1`, `"cpu":-1`, 1), "not within"},
		"an amount as no other": {strings.Replace(good, `"cpu":1`, `"cpu":"1e30"`, 1), "not within"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, err := ReadHold([]byte(test.body))
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%+v, error %v, want %q", request, err, test.want)
			}
		})
	}
}
