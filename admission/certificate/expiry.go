package certificate

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"
)

// Times of the watch over the end of a certificate.
const (
	checkEvery = time.Minute
	warnEvery  = time.Hour
)

// Get gives a serving certificate, as a TLS listener asks for it.
type Get = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Left returns for how long the certificate that get gives is good; 0 if there is none.
func Left(now time.Time, get Get) time.Duration {
	serving, err := get(nil)
	if err != nil || serving.Leaf == nil {
		return 0
	}
	return serving.Leaf.NotAfter.Sub(now)
}

// late reports whether a certificate should have been renewed long ago: a quarter of its life is left. Who renews does so at a third.
func late(now time.Time, c *tls.Certificate) bool {
	return c.Leaf.NotAfter.Sub(now) < life(c.Leaf)/4
}

// Warn writes into the log, once an hour, that nobody has renewed the certificate, until ctx ends.
func Warn(ctx context.Context, log *slog.Logger, get Get) error {
	var last time.Time
	for {
		now := time.Now()
		if serving, err := get(nil); err == nil && serving.Leaf != nil && late(now, serving) && now.Sub(last) >= warnEvery {
			last = now
			end := serving.Leaf.NotAfter
			log.Warn("The serving certificate was not renewed: when it ends, pods that opted in are refused",
				"until", end.UTC().Format(time.RFC3339), "left", end.Sub(now).Round(time.Minute).String())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(checkEvery):
		}
	}
}
