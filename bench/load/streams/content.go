package streams

import (
	"archive/tar"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
)

// text is what came, or should have come: how many bytes, and their checksum.
type text struct {
	bytes int64
	sum   uint32
}

// castagnoli is the checksum that processors compute faster than any stream comes.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// printed is what the step lines=COUNT:BYTES prints.
func printed(count, size int) text {
	sum := crc32.New(castagnoli)
	for i := range count {
		fmt.Fprintf(sum, "%0*d\n", size-1, i+1)
	}
	return text{int64(count) * int64(size), sum.Sum32()}
}

// read reads to the end.
func read(r io.Reader) (text, error) {
	sum := crc32.New(castagnoli)
	n, err := io.Copy(sum, r)
	return text{n, sum.Sum32()}, err
}

// lacks says what is wrong with what came; "" if nothing is.
func (t text) lacks(came text) string {
	switch {
	case came.bytes != t.bytes:
		return fmt.Sprintf("%d of %d bytes came", came.bytes, t.bytes)
	case came != t:
		return fmt.Sprintf("%d bytes came, and not as they were", came.bytes)
	}
	return ""
}

// random are bytes in which nothing repeats, the same each time.
func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // It never fails.
	return data
}

// fileName is that of the file that is copied, in its folder.
const fileName = "data"

// pack makes an archive of one file.
func pack(data []byte) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(len(data) + 4<<10)
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: fileName, Mode: 0o644, Size: int64(len(data))}); err != nil {
		return nil, fmt.Errorf("writing an archive: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("writing an archive: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("writing an archive: %w", err)
	}
	return out.Bytes(), nil
}

// unpacked is what the only file of an archive holds. One that is cut off, or is none, holds less.
func unpacked(archive []byte) text {
	r := tar.NewReader(bytes.NewReader(archive))
	if _, err := r.Next(); err != nil {
		return text{}
	}
	came, _ := read(r) // What is missing is counted.
	return came
}
