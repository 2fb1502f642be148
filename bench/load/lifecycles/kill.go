package lifecycles

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// kill is one SIGKILL.
type kill struct {
	process string
	// at is the lifecycle with whose start it is due, later how long it waits then, down how long the process stays dead.
	at          int
	later, down time.Duration
}

// killsFor spreads kills over n lifecycles: virtualnode the most often, the lower API server less, the upper one least.
func killsFor(n int, node string, random *rand.Rand) []kill {
	var kills []kill
	add := func(process string, times int) {
		for range times {
			kills = append(kills, kill{
				process: process, at: random.IntN(n), later: time.Duration(random.Int64N(int64(300 * time.Millisecond))),
				down: time.Duration(random.Int64N(int64(time.Second))),
			})
		}
	}
	add(lab.PartVirtualNode, max(2, n/50))
	add(node+"/apiserver", max(1, n/200))
	add("upper/apiserver", max(1, n/500))
	slices.SortStableFunc(kills, func(a, b kill) int { return a.at - b.at })
	return kills
}

// kill plays the kills, one after the other, as lifecycles begin; begun tells the number of each that does, and when it is
// closed the last ones come at once.
func (d *driver) kill(ctx context.Context, kills []kill, begun <-chan int) error {
	started := -1
	for _, k := range kills {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for started < k.at {
			number, more := <-begun
			if !more {
				break // The last kills come at the end, while the last lifecycles are under way.
			}
			started = number
		}
		sleep(ctx, k.later)
		if err := d.killOnce(ctx, k); err != nil {
			return fmt.Errorf("starting %s again: %w", k.process, err)
		}
		d.progress("lifecycle %d: killed %s, back after %s", k.at, k.process, k.down.Round(time.Millisecond))
	}
	return nil
}

// killOnce kills a process and starts it again. The lower scheduler dies with its API server, as on one machine: it ends by
// itself (and counts on being started again) where a binding came through whose answer was lost.
func (d *driver) killOnce(ctx context.Context, k kill) error {
	process := d.lab.Process(k.process)
	scheduler := d.lab.Process(d.node + "/kube-scheduler")
	together := k.process == d.node+"/apiserver"
	if together {
		scheduler.Kill()
	}
	process.Kill()
	sleep(ctx, k.down)
	if err := process.Restart(ctx); err != nil || !together {
		return err
	}
	return scheduler.Restart(ctx)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
