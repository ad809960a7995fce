# mmdet's DINO-4scale, with COCO 2017 from DDQJOBS_COCO (experiments/dino.yaml sets it).
_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'

data_root = '{{$DDQJOBS_COCO:data/coco}}/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
