"""Answers to the course's exercises that a student might give and that are wrong; each check must refuse all of them.

By exercise: what takes the solution's place in the cell.
"""

WRONG: dict[str, list[str]] = {
    "1.1": [
        "return over_time[0] - over_time[-1]",
        "return max(over_time) - min(over_time)",
        "return over_time[-1] - max(over_time)",
    ],
    "1.2": [
        "points, labels = tasks['A']\nreturn F.cross_entropy(net(points), labels)",
        "points, labels = tasks['B']\nreturn F.cross_entropy(net(points[:count]), labels[:count])",
        "points, labels = tasks['A']\nreturn F.cross_entropy(net(points[-count:]), labels[-count:])",
        "points, labels = tasks['A']\nreturn F.cross_entropy(net(points[:10]), labels[:10])",
        "points, labels = tasks['A']\nreturn F.cross_entropy(net(points[:count]), labels[:count]).detach()",
    ],
    "1.3": ["return points[:, 0] > 0", "return points[:, 1] < 0", "return points < 0"],
    "2.1": ["return cosines.argmax(dim=0)", "return cosines.max(dim=1).values", "return cosines.argmin(dim=1)"],
    "2.2": [
        "return torch.stack([features[labels == c].mean(dim=0) for c in range(classes)])",
        "return F.normalize(torch.stack([features[labels == c].mean(dim=0) for c in range(classes)]), dim=0)",
        "return F.normalize(torch.stack([features[c] for c in range(classes)]), dim=1)",
    ],
    "3.1": [
        "return float(np.mean([before[name] - after[name] for name in before]))",
        "return float(np.mean([after[name] - before[name] for name in before if name != learned]))",
        "return float(np.sum([before[name] - after[name] for name in before if name != learned]))",
    ],
    "3.2": [
        "return {name: alpha * clip[name] + (1 - alpha) * tuned[name] for name in tuned}",
        "return {name: clip[name] + alpha * tuned[name] for name in tuned}",
        "return {name: (clip[name] + tuned[name]) / 2 for name in tuned}",
    ],
    "3.3": [
        "return max(range(len(points)), key=lambda i: points[i][0])",
        "allowed = [i for i, p in enumerate(points) if p[1] > start - limit]\n"
        "return max(allowed, key=lambda i: points[i][0], default=-1)",
        "return max(range(len(points)), key=lambda i: points[i][1])",
        "allowed = [p for p in points if p[1] >= start - limit]\nreturn allowed.index(max(allowed)) if allowed else 0",
    ],
    "4.1": [
        "return torch.relu(x @ down + down_bias) @ up + up_bias",
        "return scale * (torch.relu(x @ down + down_bias) @ up) + up_bias",
        "return scale * ((x @ down + down_bias) @ up + up_bias)",
        "return scale * (torch.relu(x @ down) @ up + up_bias)",
        "return 0.1 * (torch.relu(x @ down + down_bias) @ up + up_bias)",
    ],
    "4.2": [
        "top = logits.softmax(dim=1).topk(k, dim=1)\n"
        "return torch.zeros_like(logits).scatter(1, top.indices, top.values)",
        "top = logits.topk(k, dim=1)\nreturn top.values.softmax(dim=1)",
        "top = logits.topk(K, dim=1)\n"
        "return torch.zeros_like(logits).scatter(1, top.indices, top.values.softmax(dim=1))",
        "top = logits.topk(k, dim=1)\nreturn torch.zeros_like(logits).scatter(1, top.indices, 1 / k)",
    ],
    "4.3": ["return experts - top_k", "return experts // top_k", "return top_k / experts", "return experts * top_k"],
    "4.4": [
        "return experts * 2 * width * bottleneck",
        "return experts * (2 * width * bottleneck + 2 * bottleneck)",
        "return 2 * width * bottleneck + bottleneck + width",
    ],
    "5.1": [
        "return set(sorted(range(len(counts)), key=lambda e: counts[e])[:count])",
        "return set(sorted(counts)[-count:])",
        "return set(range(count))",
        "return set(sorted(range(len(counts)), key=lambda e: -counts[e])[:2])",
    ],
    "5.2": ["gradient = gradient * ~frozen[:, None, None]", "gradient[~frozen] = 0", "gradient.zero_()"],
    "5.3": [
        "return [len(each) for each in froze]",
        "return np.cumsum([len(each) for each in froze]).tolist()",
        "return [len(set().union(*froze))] * len(froze)",
    ],
    "6.1": [
        "return (rebuilt - target).square().mean()",
        "return (rebuilt - target).square().sum(dim=1)",
        "return (rebuilt - target).abs().mean(dim=1)",
        "return (rebuilt - target).square().mean(dim=0)",
    ],
    "6.2": [
        "return float(share * held_out.max())",
        "return float(np.quantile(held_out, 1 - share))",
        "return float(held_out.mean() + 2 * held_out.std())",
    ],
    "6.3": [
        "return errors.argmin(axis=1)",
        "return np.where(errors.min(axis=1) <= limits.max(), errors.argmin(axis=1), -1)",
        "return np.where((errors <= limits).any(axis=1), errors.argmin(axis=1), -1)",
        "below = np.where(errors <= limits, errors, np.inf)\n"
        "return np.where(np.isfinite(below).any(axis=1), below.argmin(axis=1), -1)",
    ],
    "6.4": [
        "return (features - train.mean(dim=0)).square().mean(dim=1).numpy()",
        "return ((features - train.mean(dim=0)) / train.std(dim=0)).abs().sum(dim=1).numpy()",
        "return ((features - train.mean(dim=0)) / train.var(dim=0)).square().mean(dim=1).numpy() / 3",
        "return ((features - train.mean()) / train.std()).square().mean(dim=1).numpy()",
        "return ((features - train.mean(dim=0)) / train.std(dim=0)).square().sum(dim=1).numpy()",
        "return ((features - train.mean(dim=0)) / train.std(dim=0, correction=0)).abs().mean(dim=1).numpy()",
    ],
    "7.1": ["return float(A[:, -1].mean())", "return float(A[-1, -1])", "return float(np.diag(A).mean())"],
    "7.2": ["return float(A[-1].mean())", "return float(A[np.tril_indices(3)].mean())", "return float(np.median(A))"],
    "7.3": [
        "return float(A[np.triu_indices(len(A), 1)].mean())",
        "return float(np.mean([A[: j + 1, j].mean() for j in range(1, len(A))]))",
        "return float(np.mean([A[j, :j].mean() for j in range(1, len(A))]))",
        "return float(np.mean([A[:1, 1].mean(), A[:2, 2].mean()]))",
    ],
    "7.4": [
        "return float(np.mean([A[j, j] - A[-1, j] for j in range(len(A))]))",
        "return float(np.mean([A[:, j].max() - A[-1, j] for j in range(len(A))]))",
        "return float(np.mean([A[-1, j] - A[j:, j].max() for j in range(len(A) - 1)]))",
    ],
    "7.5": [
        "strange = np.full((3, 3), 80.0)",
        "strange = np.array([[200.0, 0.0, 0.0], [200.0, 200.0, 0.0], [80.0, 80.0, 80.0]])",
        "strange = np.array([[80.0, 0.0, 0.0], [0.0, 80.0, 0.0], [80.0, 80.0, 80.0]])",
    ],
    "8.1": [
        "return errors.mean(dim=0, keepdim=True).expand_as(errors)",
        "return torch.stack([part.mean(dim=0) for part in errors.split(size)])",
        "return torch.cat([part.mean(dim=1, keepdim=True).expand_as(part) for part in errors.split(size)])",
    ],
    "8.2": ["return (batch - single) / 100", "return (batch - single) / single", "return 1 - single / batch"],
    "8.3": [
        "return len(torch.unique(gates, dim=0))",
        "return int((gates > 0).any(dim=0).sum())",
        "return len(torch.unique(gates.argmax(dim=1)))",
        "return len(torch.unique(gates.topk(2, dim=1).indices, dim=0))",
    ],
    "8.4": ["weight = 0.0", "weight = 0.0001", "weight = -0.1"],
    "8.5": [
        "return next((i for i, names in enumerate(learned) if set(candidates) <= set(names)), CLIP)",
        "return next((i for i, names in enumerate(learned) if set(names) <= set(candidates)), CLIP)",
        "return next((i for i, names in enumerate(learned) if candidates[0] in names), CLIP)",
    ],
    "9.1": [
        "return spread.T @ spread, around.T @ around",
        "return spread.T @ spread / len(spread), around.T @ around / len(spread)",
        "return torch.diag(spread.var(dim=0)), torch.diag(around.var(dim=0))",
    ],
    "9.2": [
        "centred = x - mean\nreturn -(centred * torch.linalg.solve(covariance, centred.T).T).sum(dim=1) / 2",
        "return -(x - mean).square().sum(dim=1) / 2 - torch.logdet(covariance) / 2",
        "centred = x - mean\nsquared = (centred * torch.linalg.solve(covariance, centred.T).T).sum(dim=1)\n"
        "return -squared / 2 + torch.logdet(covariance) / 2",
    ],
    "9.3": [
        "return torch.cat([m[:, None] * answers, clip], dim=1)",
        "return torch.cat([(1 - m)[:, None] * answers, m[:, None] * clip], dim=1)",
        "return torch.cat([m.mean() * answers, (1 - m.mean()) * clip], dim=1)",
    ],
    "9.4": [
        "return torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).to(x), x.T @ g)",
        "return torch.linalg.solve(x.T @ x, x.T @ (g - x))",
        "return x.T @ (g - x) / penalty",
    ],
}
