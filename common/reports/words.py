"""Names and explanations in English and Chinese, used by the report and the model card."""

from __future__ import annotations

import re
from types import MappingProxyType

from common.reports.figures import Label

METHOD_NAMES = MappingProxyType({
    "popularity": Label("Best-sellers", "热销榜"),
    "item_knn": Label("Bought together", "共同购买"),
    "ease": Label("Linear autoencoder", "线性自编码器"),
    "no_training": Label("Ready-made hybrid", "免训练混合"),
    "alone": Label("The ranker, alone", "排序器，独自拟合"),
    "league": Label("The league's weights as they came", "联盟权重，未经调整"),
    "final": Label("As deployed", "实际部署"),
    "non_private": Label("As deployed, no privacy", "实际部署（无隐私保护）"),
    "local": Label("The network, alone", "神经网络，单独训练"),
    "federated": Label("The network, together", "神经网络，联合训练"),
    "fine_tuned": Label("The network, together, then tuned", "神经网络，联合训练后微调"),
    "centralised": Label("The network, all data in one place", "神经网络，数据集中训练"),
})  # fmt: skip
"""Method in metrics.json → what a merchant calls it."""

BEHAVIOUR_NAMES = MappingProxyType(
    {
        "active_days": Label("Days active, nothing learned", "活跃天数，不学习"),
        "logistic": Label("Logistic regression at home", "本店逻辑回归"),
        "boosting": Label("Boosted trees at home", "本店提升树"),
        "alone": Label("Best of its own, by validation", "按验证选出的自有最佳方法"),
    }
)
"""Method that predicts who will buy → what a merchant calls it, where that differs from what ranks."""

METHOD_NOTES = MappingProxyType({
    "popularity": Label(
        "everyone sees what sells most at this merchant lately", "向所有人推荐本店近期最畅销的商品"
    ),
    "item_knn": Label(
        "items often bought by the same people (item-kNN), and best-sellers; tuned at the site",
        "常被同一批顾客购买的商品（item-kNN）加热销，在本店调参",
    ),
    "ease": Label(
        "what a closed-form model of the merchant's own log expects (EASE), and best-sellers; tuned at the site",
        "由本店日志直接求解的线性模型（EASE）加热销，在本店调参",
    ),
    "no_training": Label(
        "similar pictures and texts + bought together + best-sellers; nothing is trained, three weights are chosen",
        "图文相似 + 共同购买 + 热销；不训练模型，只选三个权重",
    ),
    "alone": Label(
        "the same ranker over the same signals, fitted on this merchant's data only and without noise: the strongest "
        "thing a merchant could deploy by itself",
        "同样的信号、同样的排序器，只用本店数据拟合，不加噪声：商家独自所能部署的最强方法",
    ),
    "league": Label(
        "the weights that all merchants learned, before any fit at home: what a merchant without a log of its own "
        "would have",
        "所有商家共同学到的权重，未在本店拟合：没有自己日志的商家所能得到的效果",
    ),
    "final": Label(
        "the league's weights, fitted further on the merchant's own data: what is deployed",
        "联盟的权重在本店数据上继续拟合：即实际部署的内容",
    ),
    "non_private": Label(
        "what the same league would deploy without differential privacy; for comparison only",
        "同一联盟在不使用差分隐私时会部署的内容，仅供对比",
    ),
    "local": Label(
        "the neural network by itself, trained on this merchant's data only; under the same privacy budget where there "
        "is one",
        "单独使用的神经网络，只用本店数据训练；若有隐私预算，则预算相同",
    ),
    "federated": Label(
        "the neural network by itself, trained by all merchants; only vectors of numbers travel",
        "单独使用的神经网络，由所有商家共同训练，只传输数值向量",
    ),
    "fine_tuned": Label(
        "that network, trained a little further at the merchant", "上述网络在本店再做少量训练"
    ),
    "centralised": Label(
        "the network as it would be if all data lay in one place, under the same privacy budget where there is one; "
        "for comparison only",
        "假设所有数据集中在一处时的神经网络（若有隐私预算，则预算相同），仅供对比",
    ),
})  # fmt: skip

NEXT_STEPS = MappingProxyType({
    "stay_out": Label(
        "Stay out for now: its own method ({method}) is as good or better, or all that joining could add is too small.",
        "暂不加入：自有方法（{method}）效果相当或更好，或加入所能带来的提升太小。",
    ),
    "no_log": Label(
        "No log to judge by: too few customers in the test.", "没有可供判断的日志：测试中的顾客太少。"
    ),
    "measure_again": Label(
        "Keep it, and measure again with more customers: the interval spans zero.",
        "暂且保留，待顾客更多时再衡量：区间包含零。",
    ),
    "join_thin": Label(
        "Join: unproven on its own customers, but its log is too thin to fit on, and merchants new to this league "
        "gain.",
        "加入：在本店顾客上尚未证实，但本店日志太少，不足以自行拟合，而新加入本联盟的商家确有收益。",
    ),
    "join": Label("Join: the gain is proven on its own customers.", "加入：收益已在本店顾客上得到证实。"),
})  # fmt: skip
"""Code of a next step → what a merchant should do."""

SLICES = MappingProxyType({
    "returning": Label("Returning customers", "回头客"),
    "new_customers": Label("New customers' baskets", "新顾客的购物篮"),
    "joiners": Label("Merchants new to the league", "新加入的商家"),
    "first_day": Label("A newcomer's first day, before any fit", "新商家的第一天，尚未拟合"),
    "behaviour": Label("Who is about to buy", "谁即将购买"),
    "behaviour_joiners": Label("Who is about to buy, at merchants new to the league", "谁即将购买（新加入的商家）"),
})  # fmt: skip
"""Part of a league → what it's called."""


REASONS: tuple[Label, ...] = (
    Label("looks and reads alike", "外观和文字相近"),
    Label("same kind and price", "同类同价"),
    Label("bought together", "常被一起购买"),
    Label("in demand", "近期热销"),
    Label("its time in the shop", "上架时间"),
)
"""What speaks for a recommendation, as a site writes it in its own language."""
_PART = re.compile(r"(.+?) (\d+) ?%")


def reason(why: str) -> Label:
    """A site's phrase in both languages; as it is where it's of other words.

    >>> reason("bought together 61 %, in demand 30 %").zh
    '常被一起购买 61%，近期热销 30%'
    """
    words = {name: label for label in REASONS for name in (label.en, label.zh)}
    parts = [_PART.fullmatch(part.strip()) for part in re.split("[,，]", why)]
    known = [(words[part[1]], part[2]) for part in parts if part and part[1] in words]
    if not known or len(known) < len(parts):
        return Label(why, why)
    return Label(", ".join(f"{w.en} {n} %" for w, n in known), "，".join(f"{w.zh} {n}%" for w, n in known))


def method_name(name: str) -> Label:
    """What a merchant calls a method; its own name where nobody has put it into words.

    >>> method_name("ease").en, method_name("something_new").en
    ('Linear autoencoder', 'something new')
    """
    plain = name.replace("_", " ")
    return METHOD_NAMES.get(name, Label(plain, plain))


def behaviour_name(name: str) -> Label:
    """What a merchant calls a way to predict who will buy.

    >>> behaviour_name("alone").en, behaviour_name("final").en
    ('Best of its own, by validation', 'As deployed')
    """
    return BEHAVIOUR_NAMES.get(name) or method_name(name)


def next_step_words(code: str, best_alone: str) -> Label:
    """A next step in words, with the merchant's own best method named."""
    words, method = NEXT_STEPS[code], method_name(best_alone)
    return Label(words.en.replace("{method}", method.en), words.zh.replace("{method}", method.zh))


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
            "times. Where it spans no difference (a gain of 0, a ratio of 1), the data can't tell one.",
            "以 95 % 的把握包含真实值的范围，由多次重新抽样顾客得到。"
            "若包含“无差别”（提升为 0，比值为 1），则数据不足以说明有差别。",
        ),
    ),
    (
        "From the league",
        Label(
            "How much of what a merchant deploys came from the league: the way of the league's weights from the public "
            "start, as a share of that way and the way that its own data then moved them.",
            "商家所部署的内容有多少来自联盟：联盟权重离公开起点的距离，占该距离与本店数据随后移动的距离之和的比例。",
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
