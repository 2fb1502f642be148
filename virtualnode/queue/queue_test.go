package queue

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// What fails or asks for it is looked at again, what is in line is not.
func TestWork(t *testing.T) {
	t.Parallel()
	q := New("pod", slog.New(slog.DiscardHandler), time.Millisecond, 10*time.Millisecond)
	q.Add("fails twice")
	q.Add("asks for more")
	q.Add("in line")
	seen := map[string]int{}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	defer context.AfterFunc(ctx, q.ShutDown)()
	q.Work(ctx, func(_ context.Context, key string) (again time.Duration, err error) {
		seen[key]++
		if seen["fails twice"] == 3 && seen["asks for more"] == 2 {
			q.ShutDown()
		}
		switch {
		case key == "fails twice" && seen[key] < 3:
			return 0, errors.New("not yet")
		case key == "asks for more" && seen[key] < 2:
			return time.Millisecond, nil
		default:
			return 0, nil
		}
	})
	got := []int{seen["fails twice"], seen["asks for more"], seen["in line"]}
	if want := []int{3, 2, 1}; !slices.Equal(got, want) {
		t.Errorf("looks %v, want %v", got, want)
	}
}

// In a minute every key is looked at once, and never many of them in one second.
func TestResyncIsSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var keys []string
		for i := range 150 {
			keys = append(keys, strconv.Itoa(i))
		}
		seen, seconds := map[string]int{}, map[time.Time]int{}
		go Resync(ctx, func() []string { return slices.Clone(keys) }, func(key string) {
			seen[key]++
			seconds[time.Now()]++
		})
		<-time.After(2*time.Minute + time.Second/2)
		cancel()
		synctest.Wait()
		for _, key := range keys {
			if seen[key] != 2 {
				t.Errorf("key %s was looked at %d times in two minutes", key, seen[key])
			}
		}
		for second, n := range seconds {
			if n > 3 {
				t.Errorf("%d of 150 keys in one second (%s)", n, second)
			}
		}
	})
}
