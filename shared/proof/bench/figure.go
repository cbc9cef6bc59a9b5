package main

import (
	"fmt"
	"slices"
	"time"
)

// Figure is how what was measured stands to its bare counterpart.
type Figure struct {
	What string `json:"what"`
	Unit string `json:"unit"`
	// Ours and Bare are medians.
	Ours float64 `json:"ours"`
	Bare float64 `json:"bare"`
	// Ratio is the median of the pairs' ratios; half of the ratios are from Low to High.
	Ratio float64 `json:"ratio"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Pairs int     `json:"pairs"`
}

// The units of figures.
const (
	milliseconds = "ms"
	megabytes    = "MB"
	perSecond    = "/s"
	count        = "calls"
)

// value is a value of the figure's, to be read.
func (f Figure) value(v float64) string { return fmt.Sprintf("%.2f %s", v, f.Unit) }

// newFigure is what comes of pairs: ours[i] and bare[i] were measured one right after the other.
func newFigure(what, unit string, ours, bare []float64) Figure {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / bare[i]
	}
	return Figure{
		What: what, Unit: unit, Ours: quantile(ours, 0.5), Bare: quantile(bare, 0.5),
		Ratio: quantile(ratios, 0.5), Low: quantile(ratios, 0.25), High: quantile(ratios, 0.75), Pairs: len(ours),
	}
}

// quantile is the value that the share p of all is not above, between two neighbours by weight.
func quantile(all []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	at := p * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// pairs takes both sides' times n times, in turn, and each first every other time.
func pairs(what string, n int, ours, bare func() (time.Duration, error)) (Figure, error) {
	both := [2]func() (time.Duration, error){ours, bare}
	var took [2][]float64
	for i := range n {
		for j := range both {
			side := (i + j) % 2
			d, err := both[side]()
			if err != nil {
				return Figure{}, fmt.Errorf("%s: %w", what, err)
			}
			took[side] = append(took[side], d.Seconds()*1000)
		}
	}
	return newFigure(what, milliseconds, took[0], took[1]), nil
}

// timed is how long it takes.
func timed(do func() error) (time.Duration, error) {
	start := time.Now()
	err := do()
	return time.Since(start), err
}
