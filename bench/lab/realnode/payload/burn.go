package main

import (
	"os"
	"strconv"
	"syscall"
	"time"
)

// burnPeriod is that in which a part is spent busy.
const burnPeriod = 20 * time.Millisecond

// use does the steps that use what a container may have little of.
func use(name, value string, terminated <-chan os.Signal) error {
	amount, err := strconv.Atoi(value)
	if err != nil {
		return err
	}
	if name == "hold" {
		hold(amount)
		return nil
	}
	return burn(amount, terminated)
}

// burn is busy for a part of the time: 500 are half of a processor.
func burn(millicores int, terminated <-chan os.Signal) error {
	ticker := time.NewTicker(burnPeriod)
	defer ticker.Stop()
	for {
		begin, err := used()
		for now := begin; err == nil && now-begin < burnPeriod*time.Duration(millicores)/1000; {
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

// held is memory that was asked for.
var held [][]byte

// hold takes memory and writes to each page of it, since what is not written to counts as nothing.
func hold(mebibytes int) {
	for range mebibytes {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		held = append(held, block)
	}
}
