package main

import (
	"os"
	"strconv"
	"syscall"
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
		begin, err := used()
		for now := begin; err == nil && now-begin < burnPeriod*time.Duration(share)/1000; {
			now, err = used()
		}
		if err != nil {
			return err
		}
		select {
		case <-terminated:
			return nil
		case <-ticker.C:
		}
	}
}

// used is the processor time of this process: a machine that is busy with others makes it wait, but use no less.
func used() (time.Duration, error) {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), err
}
