#!/usr/bin/env python3
"""Fits the ranking of log lines again: `evidence_figures features DIR | fit.py FOREST`.

Gradient-boosted trees (Friedman 2001; LightGBM) over what the ranking sees of a line, the target being whether people
labelled the line as a part of what tells why the run failed. Every log counts the same, however long it or its failing
part is; the copies that end with the failure count a third. Prints the area under the ROC curve on projects that were
left out, in seven folds, then writes the trees fitted on all, one a line: `feature:threshold:left:right` for a branch
(at most the threshold goes left), `=value` for a leaf.
"""
import sys

import lightgbm
import numpy

TREES, LEAVES, RATE, FOLDS = 140, 6, 0.1, 7
PARAMETERS = dict(
    objective="binary", num_leaves=LEAVES, learning_rate=RATE, min_data_in_leaf=80, feature_fraction=0.4,
    bagging_fraction=0.7, bagging_freq=1, lambda_l2=8, max_bin=63, seed=0, verbose=-1, deterministic=True,
)


def read(lines):
    projects, logs, tells, features = [], [], [], []
    for line in lines:
        project, log, _number, tell, _cost, *values = line.rstrip("\n").split("\t")
        projects.append(project)
        logs.append(log)
        tells.append(tell == "1")
        features.append(numpy.array(values, dtype=numpy.float32))
    return numpy.array(projects), numpy.array(logs), numpy.array(tells), numpy.vstack(features)


def weights(logs, tells):
    weight = numpy.zeros(len(logs))
    edges = numpy.flatnonzero(logs[1:] != logs[:-1]) + 1
    for first, end in zip([0, *edges], [*edges, len(logs)]):
        part = 0.35 if logs[first].endswith("#cut") else 1.0
        told = tells[first:end]
        weight[first:end] = numpy.where(told, part * 30 / max(told.sum(), 1) ** 0.5, part * 30 / (end - first) ** 0.5)
    return weight


def area(score, tells):
    order = numpy.argsort(score)
    rank = numpy.empty(len(score))
    rank[order] = numpy.arange(1, len(score) + 1)
    positive = tells.sum()
    return (rank[tells].sum() - positive * (positive + 1) / 2) / (positive * (len(tells) - positive))


def written(tree):
    nodes = []

    def walk(node):
        at = len(nodes)
        nodes.append(None)
        if "leaf_value" in node:
            nodes[at] = "=%.4g" % node["leaf_value"]
        else:
            left, right = walk(node["left_child"]), walk(node["right_child"])
            nodes[at] = "%d:%.6g:%d:%d" % (node["split_feature"], node["threshold"], left, right)
        return at

    walk(tree)
    return " ".join(nodes)


def main():
    projects, logs, tells, features = read(sys.stdin)
    weight = weights(logs, tells)
    names = numpy.array(sorted(set(projects)))
    numpy.random.RandomState(0).shuffle(names)

    def fit(rows):
        data = lightgbm.Dataset(features[rows], tells[rows].astype(int), weight=weight[rows])
        return lightgbm.train(PARAMETERS, data, TREES)

    areas = []
    for fold in range(FOLDS):
        out = numpy.isin(projects, names[fold::FOLDS])
        areas.append(area(fit(~out).predict(features[out]), tells[out]))
    print("area under the curve on projects left out: %.4f (%s)" % (
        sum(areas) / FOLDS, ", ".join("%.3f" % one for one in areas)))
    trees = fit(numpy.ones(len(tells), dtype=bool)).dump_model()["tree_info"]
    with open(sys.argv[1], "w") as file:
        file.writelines(written(tree["tree_structure"]) + "\n" for tree in trees)
    print("%d trees written to %s" % (len(trees), sys.argv[1]))


if __name__ == "__main__":
    main()
