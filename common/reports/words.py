"""Names and explanations in English and Chinese, used by the report and the model card."""

from __future__ import annotations

from types import MappingProxyType

from common.reports.figures import Label

METHOD_NAMES = MappingProxyType({
    "popularity": Label("Best-sellers", "热销榜"),
    "item_knn": Label("Bought together", "共同购买"),
    "no_training": Label("Ready-made hybrid", "免训练混合"),
    "local": Label("Trained alone", "单独训练"),
    "federated": Label("Trained together", "联合训练"),
    "fine_tuned": Label("Together, then tuned", "联合训练后微调"),
    "non_private": Label("Together, no privacy", "联合训练（无隐私保护）"),
    "centralised": Label("All data in one place", "数据集中训练"),
    "final": Label("As deployed", "实际部署"),
        "logistic": Label("Recency and frequency", "近度与频度（逻辑回归）"),
})  # fmt: skip
"""Method in metrics.json → what a merchant calls it."""

METHOD_NOTES = MappingProxyType({
    "popularity": Label(
        "everyone sees what sells most at this merchant lately", "向所有人推荐本店近期最畅销的商品"
    ),
    "item_knn": Label(
        "items often bought by the same people (item-kNN, tuned at the site)",
        "常被同一批顾客购买的商品（item-kNN，在本店调参）",
    ),
    "no_training": Label(
        "similar pictures and texts + bought together + best-sellers; nothing is trained",
        "图文相似 + 共同购买 + 热销，不训练任何模型",
    ),
    "local": Label(
        "the same model, trained on this merchant's data only; under the same privacy budget where there is one",
        "同一模型，只用本店数据训练；若有隐私预算，则预算相同",
    ),
    "federated": Label(
        "one model trained by all merchants; only vectors of numbers travel", "所有商家共同训练一个模型，只传输数值向量"
    ),
    "fine_tuned": Label(
        "the shared model, trained a little further at the merchant", "共享模型在本店再做少量训练"
    ),
    "non_private": Label(
        "the shared model trained by the same league without differential privacy; for comparison only",
        "同一联盟在不使用差分隐私时训练的共享模型，仅供对比",
    ),
    "centralised": Label(
        "what would be possible if all data lay in one place, under the same privacy budget where there is one; for "
        "comparison only",
        "假设所有数据集中在一处所能达到的水平（若有隐私预算，则预算相同），仅供对比",
    ),
    "final": Label(
        "the shared model with the merchant's private parts and fitted weights", "共享模型加上本店私有部分与拟合权重"
    ),
})  # fmt: skip

GLOSSARY: tuple[tuple[str, Label], ...] = (
    (
        "NDCG@20",
        Label(
            "How high the items that a customer really bought stand among the first 20 recommended. "
            "1 is perfect, 0 means none was there. All items of the shop are ranked.",
            "顾客真正购买的商品在前 20 个推荐中排得有多靠前。1 为完美，0 表示一个都没有。排序对象是全店商品。",
        ),
    ),
    (
        "Recall@20",
        Label(
            "The share of a customer's later purchases that the first 20 recommendations contain.",
            "顾客之后购买的商品中，有多大比例出现在前 20 个推荐里。",
        ),
    ),
    (
        "AUC",
        Label(
            "How often the behaviour predictor gives a customer who will buy a higher score than one who won't. "
            "0.5 is guessing, 1 is perfect.",
            "行为预测把“会购买”的顾客排在“不会购买”的顾客前面的概率。0.5 等于瞎猜，1 为完美。",
        ),
    ),
    (
        "Log loss",
        Label(
            "How far the predicted probabilities are from what happened; lower is better.",
            "预测概率与实际结果相差多少，越低越好。",
        ),
    ),
    (
        "Interval",
        Label(
            "The range in which the true value lies with 95 % confidence, found by drawing the customers anew many "
            "times. Where it holds 0, the data can't tell a difference.",
            "以 95 % 的把握包含真实值的范围，由多次重新抽样顾客得到。若包含 0，则数据不足以说明有差别。",
        ),
    ),
    (
        "Coverage, diversity",
        Label(
            "The share of the catalogue that is recommended to anyone at all; how unlike the items of one list are.",
            "至少被推荐过一次的商品占全店的比例；同一推荐列表中商品之间的差异程度。",
        ),
    ),
)
