package main

import (
	"os"
	"strconv"
	"time"
)

// burnPeriod is that in which a part is spent busy.
const burnPeriod = 20 * time.Millisecond

// burn is busy for a part of the time: 500 are half of a processor.
func burn(millicores string, terminated <-chan os.Signal) error {
	share, err := strconv.Atoi(millicores)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(burnPeriod)
	defer ticker.Stop()
	for {
		for begin := time.Now(); time.Since(begin) < burnPeriod*time.Duration(share)/1000; {
		}
		select {
		case <-terminated:
			return nil
		case <-ticker.C:
		}
	}
}
