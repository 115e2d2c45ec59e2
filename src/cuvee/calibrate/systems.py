"""The equations of a block's linear maps and routers: filled expert by expert, then solved for one ridge."""

from collections.abc import Collection, Mapping, Sequence

from cuvee.calibrate.block import Block  # first, for it says which extra is missing

# isort: split
import torch

from cuvee.calibrate.outcome import MapFit
from cuvee.calibrate.routers import RouterFits
from cuvee.calibrate.sites import Linear, Site
from cuvee.calibrate.solve import Equations, GramEquations, Residuals, RowEquations, Rows, Seen, share_of

Tensor = torch.Tensor

ANCHOR = float("inf")
"""The ridge of the merge as it is: weights stay at the anchor."""


class Systems:
    """The equations of some sites of a block, for one ridge; those of sites in `by_rows` from positions themselves."""

    def __init__(
        self,
        block: Block,
        sites: Sequence[Site],
        routers: Sequence[Site],
        ridge: float,
        off_diagonal: float,
        by_rows: Collection[str],
        compares: bool,
    ) -> None:
        self._block, self._sites, self._routers, self._compares = block, sites, routers, compares
        self._equations: dict[str, Equations] = {}
        self._residuals: dict[str, Residuals] = {}
        for site in sites:
            anchors = {own.weight: _upright(own, block.anchor(own.weight)) for own in site.maps}
            anchor = torch.cat(list(anchors.values())).to(block.device)
            if site.name in by_rows:
                self._equations[site.name] = RowEquations(anchor, ridge=ridge)
            elif ridge != ANCHOR:
                self._equations[site.name] = GramEquations(anchor, ridge=ridge, off_diagonal=off_diagonal)
            if compares:
                for name, own in anchors.items():
                    self._residuals[name] = Residuals(len(own), site.size, block.device)
        names = [own.weight for router in routers for own in router.maps]
        self._router_fits = RouterFits({name: block.anchor(name) for name in names}, ridge if ridge != ANCHOR else None)

    def add(self, weights: Mapping[str, Tensor], moments: Mapping[str, Seen], norm: str, weight: float) -> None:
        """Add an expert: its tensors, and the moments of its text."""
        for site in self._sites:
            own = moments[site.name]
            matrices = [_upright(linear, weights[linear.weight]) for linear in site.maps]
            if site.name in self._equations:
                biases = [self._bias_of(linear, weights) for linear in site.maps]
                share = share_of(own, norm, weight)  # type: ignore[arg-type]  # one of Norm's words
                self._equations[site.name].add(torch.cat(matrices), own, share, torch.cat(biases))
            for linear, matrix in zip(site.maps, matrices, strict=True):
                if linear.weight in self._residuals:
                    self._residuals[linear.weight].add(matrix, own)
        for router in self._routers:
            rows, name = moments[router.name], router.maps[0].weight
            assert isinstance(rows, Rows)
            self._router_fits.add(name, weights[name], rows, weight)

    def _bias_of(self, linear: Linear, weights: Mapping[str, Tensor]) -> Tensor:
        height = _upright(linear, weights[linear.weight]).shape[0]
        return weights.get(linear.bias, torch.zeros(height))

    def solve(self) -> tuple[dict[str, Tensor], list[MapFit]]:
        """Return the solved tensors in the types that they are stored in, and how each map was fitted."""
        tensors: dict[str, Tensor] = {}
        fits: list[MapFit] = []
        for site in self._sites:
            condition = 1.0
            if site.name in self._equations:
                solved, condition = self._solve_site(site)
                tensors |= solved
            for linear in site.maps:
                anchor = self._block.anchor(linear.weight)
                now = tensors.get(linear.weight, anchor).float()
                before, after = self._residual(linear, anchor), self._residual(linear, now)
                fits.append(MapFit(linear.weight, before, after, condition))
        solved = self._router_fits.solve()
        tensors |= {name: self._block.as_stored(name, value) for name, value in solved.items()}
        return tensors, fits + [self._router_fit(router.maps[0].weight, tensors) for router in self._routers]

    def _router_fit(self, name: str, tensors: Mapping[str, Tensor]) -> MapFit:
        """Return how a router was fitted; nothing is known of its condition, for no matrix of it was made."""
        if not self._compares:
            return MapFit(name, None, None, 1.0)
        anchor = self._block.anchor(name)
        before, after = (self._router_fits.residual(name, own) for own in (anchor, tensors.get(name, anchor)))
        return MapFit(name, before, after, 1.0)

    def _residual(self, linear: Linear, matrix: Tensor) -> float | None:
        """Return how far a map's outputs are from the experts', where that is measured."""
        residuals = self._residuals.get(linear.weight)
        return residuals.of(_upright(linear, matrix)) if residuals is not None else None

    def _solve_site(self, site: Site) -> tuple[dict[str, Tensor], float]:
        equations = self._equations[site.name]
        found = equations.solve()
        heights = [_upright(linear, self._block.anchor(linear.weight)).shape[0] for linear in site.maps]
        anchors = [self._bias_of(linear, {**self._anchors(linear)}) for linear in site.maps]
        anchor = torch.cat(anchors).to(found.weight.device)
        biases = torch.split(equations.bias(found.weight, anchor), heights)
        tensors = {}
        for linear, weight, bias in zip(site.maps, torch.split(found.weight, heights), biases, strict=True):
            tensors[linear.weight] = self._block.as_stored(linear.weight, _upright(linear, weight).contiguous())
            if linear.bias in self._anchors(linear):
                tensors[linear.bias] = self._block.as_stored(linear.bias, bias.contiguous())
        return tensors, found.condition

    def _anchors(self, linear: Linear) -> dict[str, Tensor]:
        names = [name for name in (linear.weight, linear.bias) if self._block.has(name)]
        return {name: self._block.anchor(name) for name in names}


def _upright(linear: Linear, matrix: Tensor) -> Tensor:
    """Turn a map's stored matrix to [out, in], or back."""
    return matrix.T if linear.input_first else matrix
