package streams

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// Measure starts a lab with a real node and plays the streams in rounds.
func Measure(ctx context.Context, out io.Writer, rounds int, progress Progress) (*Result, error) {
	s, err := newSite(ctx, out)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	var all []Round
	for i := range rounds {
		r, err := s.round(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", i+1, err)
		}
		progress("round %d of %d, direct / relay / via: logs %s MiB/s, cp %s MiB/s, an echo %s ms", i+1, rounds,
			r.each("%.1f", func(s Speeds) float64 { return s.LogsBytesPerSecond / mebi }),
			r.each("%.1f", func(s Speeds) float64 { return s.CopyBytesPerSecond / mebi }),
			r.each("%.2f", func(s Speeds) float64 { return s.EchoMs }))
		all = append(all, r)
	}
	result := summary(all)
	result.Wrong = s.wrong
	perMebibyte := float64(rounds*passes) * (logLines*lineBytes + 2*copyBytes) / mebi
	result.RelayMsPerMiB = (s.relay.End() - s.relayStarted).Seconds() * 1000 / perMebibyte
	result.VirtualNodeMsPerMiB = s.viaSpent.Seconds() * 1000 / perMebibyte
	return result, nil
}

// passes are how often each flow goes all ways in a round, in another order each time: once is a second or two, which is too short.
const passes = 3

// round is the median of its passes.
func (s *site) round(ctx context.Context, number int) (Round, error) {
	var all []Round
	for i := range passes {
		r, err := s.pass(ctx, number*passes+i)
		if err != nil {
			return r, err
		}
		all = append(all, r)
	}
	return summary(all).Median, nil
}

// pass plays each flow on all ways, one right after the other, since the machine's speed changes within minutes. Another way is the
// first each time.
func (s *site) pass(ctx context.Context, number int) (r Round, err error) {
	for _, goes := range []flow{s.readLogs, s.copyFile, s.talk} {
		for _, w := range turned(s.ways, number) {
			if err := s.play(ctx, goes, w, number, r.of(w.name)); err != nil {
				return r, fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	return r, nil
}

// play lets a flow go one way.
func (s *site) play(ctx context.Context, goes flow, w way, pass int, into *Speeds) error {
	ctx, cancel := context.WithTimeout(ctx, flowWithin)
	defer cancel()
	before := s.lab.Process(lab.PartVirtualNode).CPU()
	if err := goes(ctx, w, pass, into); err != nil {
		return err
	}
	if w.name == wayVia {
		s.viaSpent += s.lab.Process(lab.PartVirtualNode).CPU() - before
	}
	return nil
}

// turned are all, in an order that begins with another one each time.
func turned[T any](all []T, time int) []T {
	first := time % len(all)
	return slices.Concat(all[first:], all[:first])
}
