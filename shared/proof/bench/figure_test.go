package main

import (
	"slices"
	"testing"
	"time"
)

func TestAFigureIsTheMedianOfItsPairsRatios(t *testing.T) {
	t.Parallel()
	got := newFigure("a list", milliseconds, []float64{1, 40, 9, 16, 6}, []float64{1, 20, 3, 4, 1})
	want := Figure{What: "a list", Unit: milliseconds, Ours: 9, Bare: 3, Ratio: 3, Low: 2, High: 4, Pairs: 5}
	if got != want {
		t.Errorf("the figure is %+v, want %+v", got, want)
	}
	if half := quantile([]float64{4, 1}, 0.5); half != 2.5 {
		t.Errorf("the median of 1 and 4 is %v", half)
	}
}

func TestEachSideIsFirstEveryOtherTime(t *testing.T) {
	t.Parallel()
	var order []string
	side := func(name string, took time.Duration) func() (time.Duration, error) {
		return func() (time.Duration, error) { order = append(order, name); return took, nil }
	}
	got, err := pairs("a list", 2, side("ours", 3*time.Millisecond), side("bare", 2*time.Millisecond))
	if err != nil || got.Ratio != 1.5 || got.Pairs != 2 {
		t.Errorf("the figure is %+v, %v", got, err)
	}
	if !slices.Equal(order, []string{"ours", "bare", "bare", "ours"}) {
		t.Errorf("the order is %v", order)
	}
}
