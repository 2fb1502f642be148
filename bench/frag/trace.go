package frag

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// trace is what is used of an openb trace: sizes in the order of the files. Its times and phases are not: they tell when
// a cluster of 2023 got round to a pod, and here another scheduler decides.
type trace struct{ nodes, pods []shape }

// readTrace reads DIR/nodes.csv and DIR/pods.csv in the columns of the published openb files.
func readTrace(dir string) (*trace, error) {
	t := &trace{}
	err := readCSV(filepath.Join(dir, "nodes.csv"), []string{"cpu_milli", "memory_mib", "gpu", "model"}, func(row []string) error {
		s, err := parseShape(row[0], row[1], row[2], "1000")
		if row[3] != "" {
			s.models = []string{row[3]}
		}
		t.nodes = append(t.nodes, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	columns := []string{"cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec"}
	err = readCSV(filepath.Join(dir, "pods.csv"), columns, func(row []string) error {
		s, err := parseShape(row[0], row[1], row[2], row[3])
		if row[4] != "" {
			s.models = strings.Split(row[4], "|")
		}
		t.pods = append(t.pods, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(t.nodes) == 0 || len(t.pods) == 0 {
		return nil, fmt.Errorf("reading trace %s: %d nodes and %d pods: both files need rows", dir, len(t.nodes), len(t.pods))
	}
	return t, nil
}

// parseShape reads a size; gpus times gpuMilli is its GPU share. An empty field is zero.
func parseShape(cpu, memory, gpus, gpuMilli string) (shape, error) {
	var numbers [4]int64
	for i, text := range []string{cpu, memory, gpus, gpuMilli} {
		if text == "" {
			continue
		}
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil || number < 0 {
			return shape{}, fmt.Errorf("%q is not a whole number", text)
		}
		numbers[i] = number
	}
	return shape{cpu: numbers[0], memory: numbers[1], gpu: numbers[2] * numbers[3]}, nil
}

// readCSV calls each for the named columns of every row.
func readCSV(path string, columns []string, each func(row []string) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading trace: %w", err)
	}
	defer file.Close()
	reader := csv.NewReader(file)
	header, err := reader.Read()
	if err != nil {
		return fmt.Errorf("reading trace %s: %w", path, err)
	}
	at := make([]int, len(columns))
	for i, column := range columns {
		if at[i] = slices.Index(header, column); at[i] < 0 {
			return fmt.Errorf("reading trace %s: it has no column %s", path, column)
		}
	}
	for row := make([]string, len(columns)); ; {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading trace %s: %w", path, err)
		}
		for i := range columns {
			row[i] = record[at[i]]
		}
		if err := each(row); err != nil {
			line, _ := reader.FieldPos(0)
			return fmt.Errorf("reading trace %s, line %d: %w", path, line, err)
		}
	}
}
