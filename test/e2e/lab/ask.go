package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
)

// ask starts a role in the namespace, gives it a question and reads the answer.
func ask[Q, A any](n Netns, role string, q Q, limit time.Duration) (A, error) {
	var a A
	self, err := os.Executable()
	if err != nil {
		return a, err
	}
	question, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := n.Command(ctx, self)
	cmd.Env = append(slices.Clone(environment), roleVariable+"="+role)
	cmd.Stdin = bytes.NewReader(question)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return a, fmt.Errorf("%s: not done after %v", role, limit)
	}
	if err != nil {
		return a, fmt.Errorf("%s: %w\n%s", role, err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, &a); err != nil {
		return a, fmt.Errorf("%s: answer: %w\n%s", role, err, out)
	}
	return a, nil
}

// answer reads a JSON question from standard input and writes the answer to
// standard output.
func answer[Q, A any](run func(Q) (A, error)) error {
	var q Q
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		return fmt.Errorf("question: %w", err)
	}
	a, err := run(q)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}
