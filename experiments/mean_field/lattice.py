"""A ring of rate neurons with weights that fall with distance and a drive that waves around it.

Each site is a population, sums over sites by FFT.  Means and variances by site against direct networks; and, without
the wave, the spread of covariances by distance against the covariance matrix of linear networks.  About a minute.
`python lattice.py`
"""

import numpy as np
from common import Table, arguments, mean_error

from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
from lft.meanfield.network.steps import build_network
from lft.meanfield.network.structured import connection_weights
from lft.meanfield.network.weights import network_key
from lft.meanfield.neurons import Rate
from lft.meanfield.solver import solve
from lft.meanfield.structure.lattice import spread_by_distance
from lft.meanfield.structured import Profile, Sites
from lft.plotting.figure import COLORS, new_figure, save

args = arguments(__doc__, sites=32, neurons=60, draws=6)
wave = tuple(1.2 * np.cos(2 * np.pi * np.arange(args.sites) / args.sites))
ring = Population(
    "x", Rate("relu", noise=0.2), size=args.sites * args.neurons, input=0.3, sites=Sites((args.sites,), wave)
)
weights = (Connection("x", "x", Gaussian(-1.0, 0.9), profile=Profile("gaussian", 3.0)),)
model = Model((ring,), weights, Solve("stationary", 0.1, 30.0))
x = solve(model).populations["x"]
means, variances = [], []
for draw in range(args.draws):
    network = build_network(model, dt=0.1, seed=1, draw=draw)
    network.advance(200)
    y = network.advance(600)[0]
    by_site = y.reshape(len(y), args.sites, args.neurons)
    means.append(by_site.mean(axis=(0, 2)))
    variances.append(np.mean(by_site**2, axis=(0, 2)) - by_site.mean(axis=(0, 2)) ** 2)
(mean, mean_e), (variance, variance_e) = mean_error(means), mean_error(variances)
table = Table(f"ring of {args.sites} sites with {args.neurons} neurons each")
for site in range(0, args.sites, 4):
    table.row(f"mean at site {site}", x["site_mean"][0][site], mean[site], mean_e[site])
for site in range(0, args.sites, 8):
    table.row(f"variance at site {site}", x["site_output_variance"][0][site], variance[site], variance_e[site])
z = (mean - x["site_mean"][0]) / mean_e
print(
    f"means of all sites: root mean square z {np.sqrt(np.mean(z**2)):.2f}, network lower by "
    f"{100 * (1 - mean.mean() / x['mean'][0]):.2f} %"
)
table.end()

n, lam, width = 1000, 0.6, 80.0
line = Population("x", Rate("linear", noise=0.5), size=n, sites=Sites((n,)))
local = Model(
    (line,),
    (Connection("x", "x", Gaussian(0.0, lam), profile=Profile("gaussian", width)),),
    Solve("stationary", 0.1, 60.0),
)
expected = n * spread_by_distance(solve(local), "x")
found = []
for draw in range(args.draws):
    w = connection_weights(local, 0, slice(0, n), network_key(7, draw)).dense()
    b = np.linalg.inv(np.eye(n) - w)
    c = b @ b.T
    found.append([n * np.mean(np.diagonal(np.roll(c, -d, axis=1)) ** 2) for d in range(1, n // 2)])
spread, spread_e = mean_error(found)
table = Table(f"\nlinear ring of {n}, radius {lam:g}, profile of {width:g} sites: N E[c_ij^2] of time integrals")
for d in (5, 40, 80, 120, 160, 240):
    near = slice(d - 4, d + 3)  # distances d - 3 to d + 3
    value, error = mean_error(np.array(found)[:, near].mean(axis=1))
    table.row(f"distance {d}", float(np.mean(expected[d - 3 : d + 4])), value, error)
table.end()
figure, axes = new_figure(1, 3, width=4.0)
sites = np.arange(args.sites)
for ax, line, points, error, label in (
    (axes[0, 0], x["site_mean"][0], mean, mean_e, "mean output"),
    (axes[0, 1], x["site_output_variance"][0], variance, variance_e, "variance of the output"),
):
    ax.plot(sites, line, color=COLORS[0], label="theory")
    ax.errorbar(sites, points, error, fmt="o", ms=3, color=COLORS[1], label="network")
    ax.set(xlabel="site", ylabel=label)
axes[0, 0].legend(frameon=False, fontsize=7)
ax = axes[0, 2]
ax.semilogy(np.arange(1, n // 2), expected[1 : n // 2], color=COLORS[0], label="theory")
ax.semilogy(np.arange(1, n // 2)[::8], spread[::8], "o", ms=3, color=COLORS[1], label="network")
ax.set(xlabel="distance (sites)", ylabel="N E[c_ij^2], linear ring")
save(figure, args.figures / "lattice.png")
