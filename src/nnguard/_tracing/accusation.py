"""stand-in"""
import numpy as np
def _parts(estimates, biases):
    sigma = np.sqrt(biases*(1-biases))
    return estimates/(2*sigma)
def scores(estimates, biases, fingerprints):
    w=_parts(estimates,biases); mu=2*biases-1
    norm=np.sqrt((estimates**2).sum()) or 1.0
    c=(w*mu).sum()
    return np.array([(f@w-c)/norm for f in fingerprints])
def log10_innocent(estimates, biases, score):
    if score<=0: return 0.0
    norm=np.sqrt((estimates**2).sum()) or 1.0
    w=_parts(estimates,biases)/norm; mu=2*biases-1
    best=0.0
    for lam in np.geomspace(0.1,300,60):
        a=lam*w
        m=np.logaddexp(np.log(biases)+a*(1-mu), np.log1p(-biases)+a*(-1-mu)).sum()
        best=min(best,m-lam*score)
    return best/np.log(10)
